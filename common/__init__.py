"""What the five steps share: everything that is not the lesson of one step."""

from common.moved import refuse_former_command

refuse_former_command()

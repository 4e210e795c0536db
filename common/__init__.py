"""What the five steps share: everything that is not the lesson of one step."""

from common.interrupting import raise_signals_of_command
from common.moved import refuse_former_command

raise_signals_of_command()
refuse_former_command()

"""What the five steps share: everything that is not the lesson of one step."""

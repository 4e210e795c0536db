"""Questions at the terminal."""


def confirmed(question: str) -> bool:
    """Whether the person at the terminal says yes; the end of input is a no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False

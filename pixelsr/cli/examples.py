"""Examples at the end of a command's help."""


def examples(*lines: str) -> str:
    """An epilog that shows command lines as they are typed."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])

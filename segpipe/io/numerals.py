"""Numbers in words for people: singular and plural."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: `1 image`, `1,982 images`.

    Args:
        number: how many.
        noun: of one.
        plural: of several; None adds an s.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"

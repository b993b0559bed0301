"""What can go wrong between the log and what is derived from it."""


class ProjectionError(Exception):
    """Base of this room."""


class ProjectionBehind(ProjectionError):
    """A view did not reach the wanted position in time. Retry; the log itself is fine."""

    def __init__(self, wanted: int, reached: int) -> None:
        super().__init__(f"the view is at position {reached}, {wanted} was asked for")
        self.wanted, self.reached = wanted, reached

"""The seats. Stream ``admission``: its version makes the limit exact across workers, so nothing else is in it."""

import msgspec


class AdmissionGranted(msgspec.Struct, frozen=True, kw_only=True, tag="admission.granted"):
    session_id: str
    generation: int
    taken: int  # seats taken with this one
    limit: int


class AdmissionReleased(msgspec.Struct, frozen=True, kw_only=True, tag="admission.released"):
    """Rides in the same unit as the session's end."""

    session_id: str
    generation: int


class AdmissionDenied(msgspec.Struct, frozen=True, kw_only=True, tag="admission.denied"):
    """Written to ``system``: a refusal takes no seat and must not disturb those who do."""

    key_id: str
    reason: str  # a word: limit
    taken: int
    limit: int

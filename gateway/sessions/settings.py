"""SESSION_*, MODEL_* and the seats. Field names are environment variables in lower case."""

from typing import Annotated, ClassVar

from msgspec import Meta

from events.redacted import Redacted


class SessionSettings(Redacted, frozen=True, kw_only=True):
    """What a session is made of and how many there may be."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"session_token_secret", "sealing_secret"})

    session_runtime: Annotated[
        str,
        Meta(
            pattern="^(auto|docker|local|mock)$",
            description="auto: Docker if DOCKER_HOST is given, else local processes",
        ),
    ] = "auto"
    session_image: Annotated[
        str, Meta(description="image of a session when none is asked for; empty: OpenCode, else the echo agent")
    ] = ""
    session_images_allowed: Annotated[
        str, Meta(description="comma-separated images that may be asked for beside SESSION_IMAGE")
    ] = ""
    max_concurrent_sessions: Annotated[int, Meta(ge=1, description="seats: sessions that are not ended")] = 3
    session_ready_seconds: Annotated[float, Meta(gt=0, description="seconds a session may take to become ready")] = 90.0
    session_stop_seconds: Annotated[int, Meta(ge=0, description="seconds a container gets to end by itself")] = 5
    session_boot_concurrency: Annotated[
        int, Meta(ge=0, description="containers that boot at once; 0: one per core (a boot burns 4-5 CPU seconds)")
    ] = 0
    session_data_keep_days: Annotated[
        str,
        Meta(
            pattern=r"^(\d{1,5}(\.\d{1,6})?)?$",
            description="days for which an ended session's volumes are kept and it can be resumed; "
            "0: not at all; empty: until its owner is erased",
        ),
    ] = ""
    session_token_length: Annotated[
        int, Meta(ge=22, le=86, description="characters of a session token after its prefix (6 bits each)")
    ] = 32
    session_token_expiry_hours: Annotated[
        float, Meta(gt=0, le=87_600, description="hours a session token is valid, ten years at most")
    ] = 24.0
    session_token_secret: Annotated[
        str,
        Meta(description="secret that tokens and credentials derive from (32 characters or more); auto: a 0600 file"),
    ] = "auto"
    sealing_secret: Annotated[
        str, Meta(description="secret that wraps the keys of personal fields; auto: a 0600 file in the data directory")
    ] = "auto"
    allow_unisolated: Annotated[
        bool, Meta(description="allow local processes with a database that is not the embedded one")
    ] = False


class ModelSettings(Redacted, frozen=True, kw_only=True):
    """The model that agents talk to: any OpenAI-compatible server, else the shipped stub."""

    SECRET: ClassVar[frozenset[str]] = frozenset({"model_api_key"})

    model_base_url: Annotated[str, Meta(description="base URL, such as https://host/v1; empty: the shipped stub")] = ""
    model_api_key: Annotated[str, Meta(description="its key (secret)")] = ""
    model_name: Annotated[str, Meta(description="model to ask for")] = "stub-1"

"""What a session is made of: its image, its environment, its two volumes."""

from collections.abc import Mapping

from docker import names
from docker.service import HostDir, Volume
from gateway.sessions.agent import HOME, WORKSPACE, Agent, Model, mounts, volume_names

MODEL = Model("http://model/v1", "key", "m")


def environment(model: Model) -> Mapping[str, str]:
    return {"MODEL": model.name, "OPENCODE_SERVER_PASSWORD": "the agent's own idea"}


AGENT = Agent(default_image="opencode", allowed_images=frozenset({"other:1"}), environment=environment, model=MODEL)


def test_only_images_that_were_named_are_allowed() -> None:
    """What a frontend asks for runs on our machine: the default, and what the operator listed."""
    asked = ("opencode", "other:1", "other:2", "other", "", "opencode:latest")
    allowed = [image for image in asked if AGENT.allows(image)]
    assert allowed == ["opencode", "other:1"]


def test_a_container_gets_its_own_credential() -> None:
    """Whatever the agent's settings hold, the password is the one that the gateway will send."""
    made = AGENT.environment_for("secret-of-this-container")
    assert made == {
        "MODEL": "m",
        "OPENCODE_SERVER_USERNAME": "opencode",
        "OPENCODE_SERVER_PASSWORD": "secret-of-this-container",
    }


def test_volumes_are_named_for_nobody_and_never_twice() -> None:
    made = {volume_names() for _ in range(100)}
    assert len({name for pair in made for name in pair}) == 200
    home, workspace = volume_names()
    assert home.endswith("-home") and workspace.endswith("-workspace")


def test_volumes_lie_where_the_agent_keeps_its_data() -> None:
    """Labelled as the session's: whoever lost the log still finds whose they are."""
    labels = names.labels("log", "s1", "c1")
    assert mounts(("h", "w"), labels) == (Volume("h", HOME, labels), Volume("w", WORKSPACE, labels))


def test_a_folder_of_the_host_is_the_workspace_and_never_the_home() -> None:
    """What the agent remembers stays a volume: it is the session's, and goes with it."""
    labels = names.labels("log", "s1", "c1")
    assert mounts(("h",), labels, "/srv/ada") == (Volume("h", HOME, labels), HostDir("/srv/ada", WORKSPACE))

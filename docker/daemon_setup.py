"""Sets a Docker daemon up for mutual TLS, on its own machine. ``docker/scripts/setup-docker-tls.sh``.

Root runs it there with the Python of the system: standard library only. What it would do is known before anything is
done (``plan``): nothing is changed that cannot be used, and what is changed can be put back (``--undo``). It puts the
certificates first, then systemd's drop-in, then daemon.json: a daemon can start after each of them.
"""

import argparse
import datetime as dt
import difflib
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from docker import daemon_backup, daemon_config, daemon_trial, daemon_unit
from docker.daemon_backup import CERTS, CannotUndo, present
from docker.errors import BadCertificateFiles

DONE: Final = 0
WRONG_USE: Final = 2
NEEDS_CONSENT: Final = 10
CANNOT: Final = 11
ROLLED_BACK: Final = 20
BROKEN: Final = 21

SHIPPED: Final = Path(__file__).with_name("daemon.json")
CONFIG: Final = "etc/docker/daemon.json"
DROP_IN: Final = "etc/systemd/system/docker.service.d/zz-session-gateway.conf"
_UNIT_FOLDERS: Final = ("lib/systemd/system", "usr/lib/systemd/system", "run/systemd/system", "etc/systemd/system")
_RESTARTED_WITHIN: Final = 30.0  # seconds


class Refused(Exception):
    """Nothing was changed. One sentence, and the exit code."""

    def __init__(self, sentence: str, code: int = CANNOT) -> None:
        super().__init__(sentence)
        self.code = code


class Plan(NamedTuple):
    """The files as they are to be, in the order in which they are put there, and what is to be said about it."""

    files: Mapping[str, bytes | None]
    config: daemon_config.Config
    notes: tuple[str, ...]


class Machine:
    """What is asked of the machine besides its files. Tests give another."""

    def run(self, *command: str) -> tuple[int, str]:
        """Exit code and what was said."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        except (OSError, subprocess.TimeoutExpired) as error:
            return 127, str(error)
        return done.returncode, (done.stdout + done.stderr).strip()[-2000:]

    def has(self, program: str) -> bool:
        """Whether there is such a program."""
        return shutil.which(program) is not None

    def answers(self, folder: Path, address: tuple[str, int]) -> bool:
        """Whether the restarted daemon does, soon."""
        return daemon_trial.answers(folder, address, seconds=_RESTARTED_WITHIN)

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)


def main(arguments: Sequence[str] | None = None, machine: Machine | None = None) -> int:
    """The command; answers its exit code."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        chosen.listen = daemon_config.listening(chosen.listen) if chosen.listen else ""
    except ValueError as error:
        parser.error(str(error))
    if chosen.restart and chosen.root != Path("/") and machine is None:
        parser.error("--restart restarts this machine's own daemon, which --root is not about.")
    try:
        if chosen.undo:
            return _undo(chosen, machine or Machine())
        return _set_up(chosen, machine or Machine())
    except Refused as error:
        print(error, file=sys.stderr)
        return error.code
    except (CannotUndo, BadCertificateFiles) as error:
        print(error, file=sys.stderr)
        return CANNOT
    except PermissionError as error:
        print(f"{error.filename} may not be changed by this user: run as root.", file=sys.stderr)
        return CANNOT


def plan(chosen: argparse.Namespace, machine: Machine) -> Plan:
    """What would be changed; empty ``files``: nothing. Raises Refused."""
    root: Path = chosen.root
    shipped = json.loads(SHIPPED.read_text())
    existing = _existing(root)
    command = _command(root, [*existing, *shipped])
    merged = daemon_config.merge(existing, shipped, listen=chosen.listen, sockets=_sockets(chosen, root, command))
    contradictions = list(merged.contradictions)
    if command is not None:
        contradictions += [f"the unit starts dockerd with {each}, which would be left out" for each in command.taken]
        contradictions += [
            f"the unit lets dockerd listen on {each}, which would be left out"
            for each in command.hosts
            if each.startswith("tcp://") and each not in merged.config["hosts"]
        ]
    if contradictions and not chosen.replace:
        raise Refused(f"Nothing was changed, because {'; '.join(contradictions)}: agree with --replace.", NEEDS_CONSENT)
    _look_for_obstacles(root, merged.config, machine)
    files = {
        **_certificates(chosen, merged.config),
        **_drop_in(command),
        CONFIG: _text(merged.config) if merged.config != existing else present(root, CONFIG),
    }
    changed = {path: content for path, content in files.items() if present(root, path) != content}
    return Plan(changed, merged.config, (*contradictions, *_notes(root, merged.config, command)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup-docker-tls.sh",
        description="Sets this machine's Docker daemon up for mutual TLS: certificates, daemon.json, systemd's unit.",
        epilog="Exit codes: 0 done or nothing to do, 2 wrong use, 10 --replace is needed, 11 cannot, 20 the daemon did "
        "not come back and everything was undone, 21 nor did it then.",
    )
    parser.add_argument("--certs", type=Path, help="folder of ca.pem, server-cert.pem, server-key.pem to install")
    parser.add_argument(
        "--listen", default="", metavar="ADDRESS[:PORT]", help="default: as before, else 127.0.0.1:2376"
    )
    parser.add_argument("--without-socket", action="store_true", help="no local socket: docker here needs TLS too")
    parser.add_argument("--replace", action="store_true", help="agree that settings of before are replaced")
    parser.add_argument("--restart", action="store_true", help="restart the daemon; undo all when it does not answer")
    parser.add_argument("--dry-run", action="store_true", help="show every step, also of --undo, and change nothing")
    parser.add_argument("--undo", action="store_true", help="put back what the last run replaced")
    parser.add_argument("--root", type=Path, default=Path("/"), help="where this machine's files are")
    return parser


def _set_up(chosen: argparse.Namespace, machine: Machine) -> int:
    planned = plan(chosen, machine)
    restarting = _restart_commands(chosen.root, machine)
    if chosen.restart and not restarting:
        raise Refused(
            "There is neither systemd nor a service script, so --restart cannot be done: nothing was changed."
        )
    for note in planned.notes:
        print(f"Note: {note}.")
    if not planned.files:
        print("Nothing to do: this daemon is set up.")
        return DONE
    for line in _shown(chosen.root, planned.files):
        print(line)
    if chosen.dry_run:
        print("Nothing was changed (--dry-run). Then would come:")
        for command in restarting or [("restart dockerd as you start it",)]:
            print(f"  {shlex.join(command) if len(command) > 1 else command[0]}")
        return DONE
    backup = daemon_backup.back_up(chosen.root, planned.files, f"{machine.now():%Y%m%dT%H%M%SZ}")
    daemon_backup.carry_out(chosen.root, planned.files)
    print(f"Done. What was there is in {backup}; --undo puts it back.")
    if not chosen.restart:
        commands = " && ".join(shlex.join(command) for command in restarting) or "restart dockerd as you start it"
        print(f"It takes effect with a restart: {commands}")
        return DONE
    return _restart(chosen, machine, planned, backup)


def _restart(chosen: argparse.Namespace, machine: Machine, planned: Plan, backup: Path) -> int:
    """Restart, and put everything back when no daemon answers then."""
    address = daemon_config.where(planned.config)
    said = _run_all(machine, _restart_commands(chosen.root, machine))
    if not said and machine.answers(chosen.root / CERTS, address):
        print(f"Restarted: the daemon answers with its certificate at {address[0]} port {address[1]}.")
        return DONE
    daemon_backup.undo(chosen.root, backup, force=True)
    again = _run_all(machine, _restart_commands(chosen.root, machine))
    reason = said or f"nothing with a certificate of this CA answered at {address[0]} port {address[1]}"
    print(f"The daemon did not come back ({reason}): everything was put back.", file=sys.stderr)
    if again:
        print(f"It does not start with what was before either ({again}): look at its log.", file=sys.stderr)
        return BROKEN
    return ROLLED_BACK


def _undo(chosen: argparse.Namespace, machine: Machine) -> int:
    backup = daemon_backup.newest(chosen.root)
    if chosen.dry_run:
        for line in _shown(chosen.root, daemon_backup.held(chosen.root, backup, force=chosen.replace)):
            print(line)
        print(f"Nothing was changed (--dry-run): this would be put back from {backup.name}.")
        return DONE
    files = daemon_backup.undo(chosen.root, backup, force=chosen.replace)
    print(f"Put back from {backup.name}: {', '.join(f'/{path}' for path in files)}.")
    commands = _restart_commands(chosen.root, machine)
    if not chosen.restart:
        print("It takes effect with a restart of the daemon.")
        return DONE
    if said := _run_all(machine, commands):
        print(f"The daemon does not restart ({said}): look at its log.", file=sys.stderr)
        return BROKEN
    return DONE


def _existing(root: Path) -> daemon_config.Config:
    content = present(root, CONFIG)
    if content is None or not content.strip():
        return {}
    try:
        found = json.loads(content)
    except ValueError as error:
        raise Refused(f"{root / CONFIG} is no JSON ({error}): mend it first.") from error
    if not isinstance(found, dict):
        raise Refused(f"{root / CONFIG} is no JSON object: mend it first.")
    return found


def _command(root: Path, keys: Sequence[str]) -> daemon_unit.Command | None:
    """What systemd would start without our drop-in; None when it has no unit of the daemon."""
    units = [root / folder / "docker.service" for folder in _UNIT_FOLDERS]
    unit = next((path for path in reversed(units) if path.is_file()), None)
    if unit is None:
        return None
    drop_ins = {
        path.name: path
        for folder in _UNIT_FOLDERS
        for path in (root / folder / "docker.service.d").glob("*.conf")
        if path != root / DROP_IN
    }
    texts = [path.read_text() for path in (unit, *(drop_ins[name] for name in sorted(drop_ins)))]
    line = daemon_unit.exec_start(texts)
    if not line:
        raise Refused(f"{unit} says not how dockerd is started (ExecStart=): nothing was changed.")
    return daemon_unit.without(line, set(keys))


def _sockets(chosen: argparse.Namespace, root: Path, command: daemon_unit.Command | None) -> tuple[str, ...] | None:
    """The local ones that dockerd listens on as it is started now; the file has to name them from now on."""
    if chosen.without_socket:
        return ()
    if command is None or not command.hosts:
        return ("unix://",) if not _existing(root).get("hosts") else None
    return tuple(each for each in command.hosts if not each.startswith("tcp://"))


def _look_for_obstacles(root: Path, config: daemon_config.Config, machine: Machine) -> None:
    """What would keep dockerd from starting with the file. Raises Refused."""
    state = Path(config.get("data-root", "/var/lib/docker")) / "swarm/docker-state.json"
    if present(root, str(state).lstrip("/")) is not None:
        raise Refused("This machine is in a swarm, which live-restore excludes: leave it first (docker swarm leave).")
    options = (present(root, "etc/default/docker") or b"").decode(errors="replace")
    active = [line for line in options.splitlines() if not line.lstrip().startswith("#")]
    if any(word.startswith(("-H", "--host")) for line in active for word in re.split(r"[\s\"'=]+", line)):
        raise Refused("/etc/default/docker names hosts (-H), which dockerd refuses beside daemon.json: take them out.")
    if machine.has("dockerd") and "--validate" in machine.run("dockerd", "--help")[1]:
        _validate(config, machine)


def _validate(config: daemon_config.Config, machine: Machine) -> None:
    """dockerd 23 and newer say themselves whether they take a file."""
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "daemon.json").write_bytes(_text(config))
        code, said = machine.run("dockerd", "--validate", "--config-file", str(folder / "daemon.json"))
    finally:
        shutil.rmtree(folder)
    if code:
        raise Refused(f"dockerd would not take the file: {said.splitlines()[-1] if said else code}.")


def _certificates(chosen: argparse.Namespace, config: daemon_config.Config) -> dict[str, bytes | None]:
    """Those that are given, or that are there; a client on the daemon's address must accept them. Raises Refused."""
    folder = chosen.certs or chosen.root / CERTS
    host = "" if daemon_config.everywhere(config) else daemon_config.where(config)[0]
    if found := daemon_trial.problem(folder, host):
        raise Refused(f"{found}: nothing was changed. {_what_to_do(chosen, folder, host)}")
    if not chosen.certs:
        return {}
    return {f"{CERTS}/{name}": (folder / name).read_bytes() for name in daemon_trial.FILES}


def _what_to_do(chosen: argparse.Namespace, folder: Path, host: str) -> str:
    if not chosen.certs:
        return "Make them with generate-certs.sh, and name their folder with --certs."
    if not host or daemon_trial.problem(folder, ""):
        return "Make them anew with generate-certs.sh."
    address = "Name another with --listen" if chosen.listen else "Name the address that clients use with --listen"
    return (
        f"{address}, or make a certificate for {host}, where the CA's key is: python -m "
        f"gateway certs rotate server --host {host}."
    )


def _drop_in(command: daemon_unit.Command | None) -> dict[str, bytes | None]:
    if command is None or not (command.hosts or command.taken):
        return {}
    return {DROP_IN: daemon_unit.drop_in(command.line).encode()}


def _notes(root: Path, config: daemon_config.Config, command: daemon_unit.Command | None) -> list[str]:
    found = []
    if command is None:
        found.append("systemd has no docker.service here: start dockerd without -H, which would clash with daemon.json")
    if all(each.startswith("tcp://") for each in config["hosts"]) and command is not None:
        found.append("there will be no local socket: docker on this machine needs -H, --tlsverify and a certificate")
    if daemon_config.everywhere(config):
        found.append("the daemon will listen on every address: let only the gateway reach the port")
    return found


def _shown(root: Path, files: Mapping[str, bytes | None]) -> list[str]:
    """Every change as a difference; of keys, that they are put there."""
    lines = []
    for path, content in files.items():
        former = present(root, path)
        if path.startswith(f"{CERTS}/"):
            mode = "0400" if path.endswith("key.pem") else "0444"
            doing = "Replace" if former else "Install"
            lines.append(f"Remove /{path}" if content is None else f"{doing} /{path} ({mode})")
            continue
        before, after = (each.decode().splitlines() if each else [] for each in (former, content))
        lines += difflib.unified_diff(before, after, f"/{path}", f"/{path} (new)", lineterm="")
    return lines


def _restart_commands(root: Path, machine: Machine) -> list[tuple[str, ...]]:
    if any((root / folder / "docker.service").is_file() for folder in _UNIT_FOLDERS) and machine.has("systemctl"):
        return [("systemctl", "daemon-reload"), ("systemctl", "restart", "docker")]
    if (root / "etc/init.d/docker").exists() and machine.has("service"):
        return [("service", "docker", "restart")]
    return []


def _run_all(machine: Machine, commands: Sequence[tuple[str, ...]]) -> str:
    """What the first that fails says; empty when none does."""
    for command in commands:
        code, said = machine.run(*command)
        if code:
            return f"{shlex.join(command)}: {said.splitlines()[-1] if said else code}"
    return ""


def _text(config: daemon_config.Config) -> bytes:
    return (json.dumps(config, indent=2) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main())

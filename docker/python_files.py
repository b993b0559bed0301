"""Python in an image: the interpreter that runs this, its standard library, and the packages that a lock file pins."""

import re
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from docker.errors import ImageUnbuildable
from docker.rootfs import RootFilesystem

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"/usr/lib/{VERSION}"
PACKAGES = f"{LIBRARY}/site-packages"
# Three quarters of the standard library's bytes, and nothing that an agent or the gateway runs.
_NOT_SHIPPED = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip"}
_NOT_SHIPPED |= {"lib2to3", "pydoc_data", "turtle.py"}
# What packages bring for compilers and editors.
_SOURCES = {".a", ".c", ".h", ".pxd", ".pxi", ".pyi", ".pyx", ".proto"}
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)\s*(;)?")


def add_python(files: RootFilesystem) -> None:
    """The interpreter as /usr/bin/python3 with its standard library. Raises ImageUnbuildable."""
    files.program("/usr/bin/python3", Path(getattr(sys, "_base_executable", sys.executable)).resolve())
    library = Path(sysconfig.get_path("stdlib"))
    files.tree(LIBRARY, library, skip=_not_shipped)
    compiled = [path for path in sorted((library / "lib-dynload").glob("*.so")) if not _not_shipped(path.name)]
    try:
        files.libraries_of(compiled)
    except ImageUnbuildable:  # one of them
        for extension in compiled:
            _extension_libraries(files, extension)


def add_packages(files: RootFilesystem, lock: Path, without: frozenset[str] = frozenset()) -> None:
    """What ``lock`` pins, as it is installed for the Python that runs this. Raises ImageUnbuildable."""
    extensions = []
    for name in pinned(lock):
        if name not in without:
            extensions += _add_package(files, metadata.distribution(name))
    files.libraries_of(extensions)


def pinned(lock: Path) -> list[str]:
    """Names of the packages that ``lock`` pins and this Python needs. Raises ImageUnbuildable unless all are here."""
    found = []
    for name, version, marker in _PIN.findall(lock.read_text()):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            if marker:  # for another system or another Python
                continue
            installed = "none"
        if installed != version:
            raise ImageUnbuildable(
                f"{lock.name} pins {name} {version}, and installed is {installed}: run this with the Python of .venv, "
                "brought up by make venv."
            )
        found.append(name)
    return found


def _add_package(files: RootFilesystem, package: metadata.Distribution) -> list[Path]:
    """Its files below site-packages, but not its commands; answers its compiled modules."""
    extensions = []
    for inside in package.files or ():
        path = Path(str(package.locate_file(inside)))
        if ".." in inside.parts or inside.name == "RECORD" or _is_left_out(inside.name) or not path.is_file():
            continue
        files.file(f"{PACKAGES}/{inside}", path, dated=True)
        if ".so" in inside.suffixes:
            extensions.append(path)
    return extensions


def _is_left_out(name: str) -> bool:
    compiled = name.endswith(".pyc") and not name.endswith(f".{sys.implementation.cache_tag}.pyc")
    return compiled or Path(name).suffix in _SOURCES


def _not_shipped(name: str) -> bool:
    return (
        name in _NOT_SHIPPED
        or name.startswith(("config-", "_tkinter.", "_test", "_xx", "xx"))
        or name.endswith((".opt-1.pyc", ".opt-2.pyc"))
    )


def _extension_libraries(files: RootFilesystem, extension: Path) -> None:
    """Most of Python's compiled modules need nothing more; one whose library is absent here fails here as well."""
    try:
        files.libraries(extension)
    except ImageUnbuildable:
        return

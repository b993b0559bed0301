"""What can go wrong between us and the container runtime; the class name says whose fault it is.

Foreign exceptions are mapped in ``docker/aiodocker_service.py`` and chained. HTTP statuses are chosen in
``gateway/errors.py``, never here.
"""


class DockerError(Exception):
    """Base of this room. The message is one sentence that a person can act on."""


class DaemonDown(DockerError):
    """Nothing answers at the daemon's address: refused, timed out, or cut in mid-call."""


class DaemonRefusedUs(DockerError):
    """The daemon ended the TLS handshake: our certificate is missing, of another CA, expired, or of the wrong usage."""


class DaemonUntrusted(DockerError):
    """We ended the TLS handshake: the daemon's certificate is not signed by our CA, expired, or names another host."""


class DaemonPlainText(DockerError):
    """One side speaks plain HTTP where the other speaks TLS."""


class DaemonFailed(DockerError):
    """The daemon answered with an error that is its own (5xx) or that we did not expect."""


class BadCertificateFiles(DockerError):
    """Our own files cannot be used: absent, unreadable, or key and certificate do not belong together."""


class ImageMissing(DockerError):
    """The image is not on the daemon's machine; nothing is ever pulled for a session."""


class NameTaken(DockerError):
    """A container of that name exists and is not the one that was asked for."""


class ContainerGone(DockerError):
    """There is no such container."""


class ContainerRunning(DockerError):
    """A running container is removed only by force."""


class BadDockerSettings(DockerError):
    """A setting of this room cannot be used; the message names it."""


class HostAddressUnknown(DockerError):
    """Where published ports are reached could not be found out: the daemon's machine has no address known here."""


class ImageUnbuildable(DockerError):
    """An image cannot be built on this machine; the message names what is missing."""
class CertificateFilesMissing(BadCertificateFiles):
    """One of our files is not there."""


class CertificateFilesUnreadable(BadCertificateFiles):
    """One of our files is there, and this user may not read it."""


class LimitsNotApplied(DockerError):
    """The daemon made something else than was asked: a limit or a hardening measure is missing. The message says which.

    What it made is removed: no session starts in it.
    """



"""A certificate authority for tests, by the openssl command: no package that some machines have to compile."""

import subprocess
import tempfile
from pathlib import Path

CONFIG = """\
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {name}
"""
"""Extensions as Python's strictest check wants them (VERIFY_X509_STRICT, the default from 3.13 on)."""


def openssl(*arguments: str, folder: Path) -> None:
    """Run openssl with its files in `folder`."""
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Pem(bytes):
    """PEM text of one thing or several."""

    def write_to_path(self, path: str | Path) -> None:
        """Write it to a file."""
        Path(path).write_bytes(self)


class Certificate:
    """A certificate and its key."""

    def __init__(self, cert_pem: Pem, private_key_pem: Pem) -> None:
        self.cert_pem = cert_pem
        self.private_key_pem = private_key_pem
        self.private_key_and_cert_pem = Pem(private_key_pem + cert_pem)

    def encrypted_key(self, password: str) -> Pem:
        """The key, which needs that password now."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self.private_key_pem.write_to_path(folder / "key")
            to = ["-topk8", "-v2", "aes-256-cbc", "-passout", f"pass:{password}"]
            openssl("pkcs8", "-in", "key", *to, "-out", "encrypted", folder=folder)
            return Pem((folder / "encrypted").read_bytes())


class CA(Certificate):
    """An authority that nobody trusts who does not have its `cert_pem`."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "config").write_text(CONFIG.format(name="DNS:unused"))
            own = ["-x509", "-extensions", "ca", "-days", "30", "-out", "cert"]
            _request(folder, "/O=authority for tests/CN=authority", *own)
            super().__init__(*(Pem((folder / part).read_bytes()) for part in ("cert", "key")))

    def issue_cert(self, name: str, days: int = 30) -> Certificate:
        """A certificate for a host's name or address; with `days` below 0 it has expired already."""
        with tempfile.TemporaryDirectory() as folder_name:
            folder = Path(folder_name)
            is_address = name.replace(".", "").isdigit() or ":" in name
            (folder / "config").write_text(CONFIG.format(name=f"{'IP' if is_address else 'DNS'}:{name}"))
            self.cert_pem.write_to_path(folder / "ca")
            self.private_key_pem.write_to_path(folder / "ca-key")
            _request(folder, f"/O=tests/CN={name}", "-out", "request")
            signed = ["-CA", "ca", "-CAkey", "ca-key", "-CAcreateserial", "-days", str(days)]
            extensions = ["-extfile", "config", "-extensions", "leaf"]
            openssl("x509", "-req", "-in", "request", *signed, *extensions, "-out", "cert", folder=folder)
            return Certificate(*(Pem((folder / part).read_bytes()) for part in ("cert", "key")))


def _request(folder: Path, subject: str, *more: str) -> None:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key"]
    openssl("req", "-new", "-config", "config", "-subj", subject, *curve, *more, folder=folder)

"""Signatures of audit records: DSSE envelopes, which in-toto's and sigstore's tools read too."""

import json
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey  # type: ignore[attr-defined]

from pipeline.errors import StageError

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_MAKE = "openssl genpkey -algorithm ed25519 -out key.pem && openssl pkey -in key.pem -pubout -out key.pub"


def signer_of(path: Path) -> CryptoSigner:
    """Reads a private key, and returns what signs with it.

    Raises:
        StageError: If the file has no such key.
    """
    try:
        return CryptoSigner(load_pem_private_key(path.read_bytes(), password=None))
    except (OSError, ValueError, TypeError) as error:
        raise StageError(
            f"SIGN = {str(path)!r} holds no private key ({error}); expected an Ed25519 key in PEM without a password: "
            f"{_MAKE}"
        ) from error


def signed(payload: bytes, signer: CryptoSigner) -> bytes:
    """The envelope of a record; with an Ed25519 key the same record gives the same bytes."""
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return (json.dumps(envelope.to_dict(), indent=2, sort_keys=True) + "\n").encode()


def verified(envelope: bytes, key: Path) -> bytes:
    """Proves that an envelope is signed by a key, and returns the record in it.

    Raises:
        StageError: If it is not signed by it, or either cannot be read.
    """
    try:
        public = SSlibKey.from_crypto(load_pem_public_key(key.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise StageError(
            f"KEY = {str(key)!r} holds no public key ({error}); expected one in PEM: openssl pkey -pubout writes it"
        ) from error
    try:
        found = Envelope.from_dict(json.loads(envelope))
        found.verify([public], 1)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StageError(f"the envelope cannot be read ({error!r}): it was altered, or is no DSSE envelope") from error
    except VerificationError as error:
        raise StageError(
            f"the signature is not the key's, or the record was altered after it was signed ({error})"
        ) from error
    if found.payload_type != PAYLOAD_TYPE:
        raise StageError(f"the envelope holds {found.payload_type!r}; expected {PAYLOAD_TYPE!r}")
    return found.payload

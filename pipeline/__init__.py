"""The shared code that touches the disk: params, hashes and provenance, atomic files, resumable state."""

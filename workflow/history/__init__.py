"""What git knows: revisions, their lock, parameters, records of seeds and sweeps, and copies to work in."""

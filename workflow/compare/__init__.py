"""Is one revision's model better than another's, and how far may equal ones lie apart."""

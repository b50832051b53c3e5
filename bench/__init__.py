"""Speed: what is timed, how its work is counted, and the table of both."""

"""What people do with the pipeline across commits and machines."""

"""Features of a frozen encoder, the probes fitted on them, and the untrained control."""

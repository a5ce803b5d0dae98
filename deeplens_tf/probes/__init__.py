"""Features of a frozen encoder, the probes fitted to them, and the untrained control."""

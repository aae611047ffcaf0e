"""Jobs on a remote Ray cluster: submit, watch, stop."""

"""The pytest plugin: hooks, options and reports over the fastkernels library."""

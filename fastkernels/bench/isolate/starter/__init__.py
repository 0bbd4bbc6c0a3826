"""A process that has imported torch once and forks into workers, in milliseconds each (docs/processes.md).

The standard library's fork server listens on a named socket, which a candidate on CUDA could reach: Landlock does not
cover unix sockets by path. Here every connection is a descriptor that is handed over.
"""

"""`scoremux api`: plain JSON over HTTP for platforms, beside the KServe protocol.

`services` is what all endpoints share; each module `…_endpoints` has a `router`, and `api_app` puts them together.
"""

"""`scoremux api`: plain JSON over HTTP for platforms; `api_app` puts the `router` of each `…_endpoints` together."""

"""The OpenAPI file: `python tests/support/openapi_file.py > desk/scoremux_desk/api/openapi.json` writes it again."""

import json
import sys
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI

from scoremux_desk.api.api_app import create_app
from scoremux_desk.api.callers import Callers
from scoremux_desk.api.services import Services


def openapi_text(app: FastAPI) -> str:
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    nothing = cast(Any, None)  # routes do not look at the services before a request comes
    sys.stdout.write(openapi_text(create_app(Services(nothing, nothing, Callers(None), Path()))))

"""Serves what studies have chosen: exports it, and sends it as ZIP files."""

from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Response

from krona_tune.adapters.export_forms import Form
from krona_tune.service.adapter_exports import (
    ExportAnswer,
    ExportRequest,
    adapter_folder,
    export_apart,
    exported_folder,
)
from krona_tune.service.folder_archive import ZipAnswer
from krona_tune.service.responses import NO_JSON, PROBLEMS, UNKNOWN, json_answer, only_json
from krona_tune.service.served_studies import ServedStudies
from krona_tune.service.study_routes import Name

Task = Annotated[str, Path(description="A task's name.", min_length=1, max_length=255)]
ZIP: dict[int | str, dict[str, Any]] = {200: {"description": "A ZIP file.", "content": {ZipAnswer.media_type: {}}}}


def adapter_routes(studies: ServedStudies) -> APIRouter:
    """Returns the routes of adapters and their exports."""
    router = APIRouter(responses=PROBLEMS)
    exports_at_once = CapacityLimiter(1)

    @router.post(
        "/api/studies/{name}/exports",
        response_model=ExportAnswer,
        status_code=201,
        responses=UNKNOWN | NO_JSON,
        dependencies=[Depends(only_json)],
    )
    async def export(name: Name, asked: ExportRequest) -> Response:
        """Export what a study has chosen of a task into the study's folder; answer when it is written."""
        folder = await run_sync(studies.with_adapters, name)
        done = await run_sync(export_apart, folder, asked, limiter=exports_at_once)
        return json_answer(done.model_dump(), 201)

    @router.get("/api/studies/{name}/adapters/{task}", response_class=Response, responses=UNKNOWN | ZIP)
    def adapter(name: Name, task: Task) -> Response:
        """Return what a study has chosen of a task as a ZIP file of its folder."""
        return ZipAnswer(adapter_folder(studies.with_adapters(name), task), f"{name}-{task}")

    @router.get("/api/studies/{name}/exports/{task}/{form}", response_class=Response, responses=UNKNOWN | ZIP)
    def exported(name: Name, task: Task, form: Form) -> Response:
        """Return what was exported of a task in this form as a ZIP file of its folder."""
        return ZipAnswer(exported_folder(studies.with_adapters(name), task, form), f"{name}-{task}-{form}")

    return router

"""Serves studies to browsers and programs: a live page of each, REST, and orders to the studies that run."""

from krona_tune.service.adapter_exports import ExportRequest
from krona_tune.service.client import Client
from krona_tune.service.new_study.study_form import NewStudy
from krona_tune.service.queue.entry import Submission, TrainingRequest
from krona_tune.study.order import OrderRequest

__all__ = ["Client", "ExportRequest", "NewStudy", "OrderRequest", "Submission", "TrainingRequest"]

"""Hands on ``vigie.services.one_class_svm_service``."""

from vigie.services.one_class_svm_service import OneClassSVMService

__all__ = ["OneClassSVMService"]

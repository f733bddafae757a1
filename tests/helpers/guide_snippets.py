"""The Python of the guide that Vigie was written to, word for word."""

TRAIN = """
from app.services.isolation_forest_service import IsolationForestService
import numpy as np

service = IsolationForestService()
X = np.random.randn(100, 5)  # Données d'entraînement

# L'entraînement log automatiquement dans MLflow
metrics = service.train(X, feature_names=["feature1", "feature2", ...])
"""

LOAD = """
from app.services.mlflow_service import MLflowService

mlflow_service = MLflowService()

# Charger le dernier modèle Isolation Forest en production
model = mlflow_service.load_model("isolation_forest", stage="Production")

# Charger une version spécifique
model = mlflow_service.load_model("isolation_forest", version=1)

# Charger le dernier modèle en staging
model = mlflow_service.load_model("isolation_forest", stage="Staging")
"""

TRANSITION = """
from app.services.mlflow_service import MLflowService

mlflow_service = MLflowService()

# Transitionner la version 2 du modèle vers Production
mlflow_service.transition_model_stage(
    model_name="isolation_forest",
    version=2,
    stage="Production"
)
"""

CLIENT = """
import mlflow
from mlflow.tracking import MlflowClient

client = MlflowClient(tracking_uri="http://localhost:5000")

# Lister les expériences
experiments = client.list_experiments()
print([exp.name for exp in experiments])

# Récupérer les runs d'une expérience
runs = client.search_runs(
    experiment_ids=["0"],  # ID de l'experiment
    max_results=10
)

# Récupérer un run spécifique
run = client.get_run(run_id="<run_id>")
print(f"Metrics: {run.data.metrics}")
print(f"Params: {run.data.params}")

# Récupérer les versions d'un modèle
versions = client.get_latest_versions("isolation_forest", stages=["Production"])
print([v.version for v in versions])
"""

RUN = """
from app.services.mlflow_service import MLflowService

mlflow_service = MLflowService()
run = mlflow_service.start_run(run_name="experiment_2024_01_01")
# ... entraînement ...
mlflow_service.end_run()
"""

METRICS = """
from app.services.mlflow_service import MLflowService

mlflow_service = MLflowService()
mlflow_service.log_metrics({
    "custom_metric_1": 0.95,
    "custom_metric_2": 0.87
})
"""

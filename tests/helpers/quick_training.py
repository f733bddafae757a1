"""Settings under which the three detectors learn within a second or two, without MLflow."""

WINDOW = 5
CHEAP = {
    "mlflow_enabled": False,
    "figures": False,
    "n_estimators": 50,
    "epochs": 6,
    "encoder_layers": (8,),
    "decoder_layers": (8,),
    "sequence_length": WINDOW,
}

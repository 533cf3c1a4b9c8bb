"""Fits the iris classifier and lays it out as MLServer wants it: ``fit_iris.py FOLDER [GRPC_PORT]``."""

import json
import pathlib
import sys

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

MODELS = ["iris-v1", "iris-v2", "fraud-v1"]


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


def main(folder, grpc_port=0):
    folder = pathlib.Path(folder)
    data = load_iris()
    model = LogisticRegression(max_iter=500).fit(data.data, data.target)
    for name in MODELS:
        (folder / name).mkdir(parents=True)
        joblib.dump(model, folder / name / "model.joblib")
        settings = {
            "name": name,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": "./model.joblib", "version": "v1"},
        }
        write_json(folder / name / "model-settings.json", settings)
    server = {
        "host": "127.0.0.1",
        "http_port": 0,
        "grpc_port": int(grpc_port),
        "metrics_endpoint": None,
        "parallel_workers": 0,
    }
    write_json(folder / "settings.json", server)


main(*sys.argv[1:])

"""The OpenAPI document, as generators and linters read it."""

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from gateway import errors
from gateway.api.openapi.examples import ANSWERS, BATCH_LINES, problem_example
from gateway.app import create_app
from gateway.service.keys import make_key
from gateway.settings import AccessSettings, FetchSettings, Settings

ROOT = Path(__file__).parents[2]
METHODS = ("get", "post")


@pytest.fixture(scope="module")
def generate():
    """docs/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def whole(tmp_path):
    """The document of a gateway with everything switched on."""
    make_key(tmp_path / "keys.json", "one")
    access = AccessSettings(keys_file=tmp_path / "keys.json")
    return create_app(Settings(access=access, fetch=FetchSettings(image_url="on"))).openapi()


def operations(document):
    return [path[method] for path in document["paths"].values() for method in METHODS if method in path]


def below(kind):
    return {kind}.union(*map(below, kind.__subclasses__()))


def test_the_snapshot_is_what_the_gateway_says(generate):
    """A change that integrators can see is seen by reviewers; `./run docs` writes it."""
    assert (ROOT / "docs" / "openapi.json").read_text() == generate.openapi_document()


def test_operation_ids_are_those_that_clients_were_generated_from(whole):
    ids = {one["operationId"] for one in operations(whole)}
    assert {"enhance", "preprocess", "preprocess_article", "batch", "list_models", "health", "ready"} <= ids
    assert len(ids) == len(operations(whole))


def test_every_operation_is_told_of(whole):
    tags = {tag["name"] for tag in whole["tags"]}
    for one in operations(whole):
        assert one["summary"]
        assert one["description"]
        assert set(one["tags"]) <= tags


def test_every_error_is_a_problem_by_reference_with_an_example_of_each_type(whole):
    problem = whole["components"]["schemas"]["Problem"]
    told = set()
    for one in operations(whole):
        for status, answer in one["responses"].items():
            if int(status) < 400:
                continue
            (content,) = answer["content"].values()
            assert list(answer["content"]) == ["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            for slug, example in content["examples"].items():
                assert example["value"]["type"] == slug
                assert example["value"]["status"] == int(status)
                told.add(slug)
            if status in ("429", "503"):
                assert "Retry-After" in answer["headers"]
    assert set(problem["required"]) == {"type", "title", "status", "detail", "request_id"}
    never_asked_for = {errors.CorsRefused, errors.CallerLeft, errors.TryLater}
    assert told == {kind.type for kind in below(errors.GatewayError) - never_asked_for}


def test_every_error_has_words_of_its_own():
    never_asked_for = {errors.CorsRefused, errors.CallerLeft, errors.TryLater}
    for kind in below(errors.GatewayError) - never_asked_for:
        assert problem_example(kind)["detail"] != (kind.__doc__ or "").splitlines()[0]


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_examples_fit_their_schemas(whole, name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": whole["components"]}
    Draft202012Validator(schema).validate(ANSWERS[name])


def test_the_examples_of_a_batch_fit_its_lines(whole):
    content = whole["paths"]["/v1/batch"]["post"]["responses"]["200"]["content"]["application/x-ndjson"]
    validator = Draft202012Validator({**content["schema"], "components": whole["components"]})
    for line in BATCH_LINES.values():
        validator.validate(line)


def test_both_answers_and_all_requests_of_the_single_call_are_told(whole):
    enhance = whole["paths"]["/v1/enhance"]["post"]
    requests = enhance["requestBody"]["content"]
    assert {"multipart/form-data", "image/*", "application/json"} == set(requests)
    assert requests["multipart/form-data"]["example"]
    assert requests["application/json"]["example"]
    answers = enhance["responses"]["200"]
    assert {"image/jpeg", "image/png", "image/webp", "application/json"} == set(answers["content"])
    assert {"ETag", "Server-Timing", "X-Faces", "X-GPEN-Model"} <= set(answers["headers"])
    assert "304" in enhance["responses"]


@pytest.mark.slow
def test_a_standard_linter_has_nothing_to_say(npm_project, whole):
    folder = npm_project("lint")
    shutil.copy(Path(__file__).with_name("redocly.yaml"), folder)
    shutil.copy(ROOT / "docs" / "openapi.json", folder / "default.json")
    (folder / "whole.json").write_text(json.dumps(whole))
    quiet = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    lint = ["node_modules/.bin/redocly", "lint", "default.json", "whole.json"]
    told = subprocess.run(lint, cwd=folder, env=quiet, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr

"""The OpenAPI document suits generators and linters, and the generated parts of docs/ are current."""

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


@pytest.fixture
def whole(tmp_path):
    """The document of a gateway with API keys and `image_url` enabled."""
    make_key(tmp_path / "keys.json", "one")
    access = AccessSettings(keys_file=tmp_path / "keys.json")
    return create_app(Settings(access=access, fetch=FetchSettings(image_url="on"))).openapi()


def operations(document):
    return [path[method] for path in document["paths"].values() for method in METHODS if method in path]


def with_subclasses(kind):
    return {kind}.union(*map(with_subclasses, kind.__subclasses__()))


def test_the_snapshot_is_current(generate):
    """Reviewers see every change that integrators can see; `./run docs` writes it."""
    assert (ROOT / "docs" / "openapi.json").read_text() == generate.openapi_document()


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_generated_tables_are_current(generate, page):
    """`./run docs` writes them."""
    assert page.read_text() == generate.update_tables(page.read_text())


def test_operation_ids_are_stable_and_unique(whole):
    ids = {one["operationId"] for one in operations(whole)}
    assert {"enhance", "preprocess", "preprocess_article", "batch", "list_models", "health", "ready"} <= ids
    assert len(ids) == len(operations(whole))


def test_every_operation_has_a_summary_a_description_and_known_tags(whole):
    tags = {tag["name"] for tag in whole["tags"]}
    for one in operations(whole):
        assert one["summary"]
        assert one["description"]
        assert set(one["tags"]) <= tags


def test_every_error_is_a_problem_by_reference_with_an_example_of_each_type(whole):
    problem = whole["components"]["schemas"]["Problem"]
    documented = set()
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
                documented.add(slug)
            if status in ("429", "503"):
                assert "Retry-After" in answer["headers"]
    assert set(problem["required"]) == {"type", "title", "status", "detail", "request_id"}
    undocumented = {errors.CorsRefused, errors.CallerLeft, errors.TryLater}
    assert documented == {kind.type for kind in with_subclasses(errors.GatewayError) - undocumented}


def test_every_error_example_has_a_specific_detail():
    undocumented = {errors.CorsRefused, errors.CallerLeft, errors.TryLater}
    for kind in with_subclasses(errors.GatewayError) - undocumented:
        assert problem_example(kind)["detail"] != (kind.__doc__ or "").splitlines()[0]


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_examples_match_their_schemas(whole, name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": whole["components"]}
    Draft202012Validator(schema).validate(ANSWERS[name])


def test_batch_examples_match_their_schema(whole):
    content = whole["paths"]["/v1/batch"]["post"]["responses"]["200"]["content"]["application/x-ndjson"]
    validator = Draft202012Validator({**content["schema"], "components": whole["components"]})
    for line in BATCH_LINES.values():
        validator.validate(line)


def test_enhance_documents_all_request_and_response_types(whole):
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
def test_redocly_reports_nothing(npm_project, whole):
    folder = npm_project("lint")
    shutil.copy(Path(__file__).with_name("redocly.yaml"), folder)
    shutil.copy(ROOT / "docs" / "openapi.json", folder / "default.json")
    (folder / "whole.json").write_text(json.dumps(whole))
    quiet = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    lint = ["node_modules/.bin/redocly", "lint", "default.json", "whole.json"]
    done = subprocess.run(lint, cwd=folder, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

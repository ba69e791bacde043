"""The server conforms to its OpenAPI document, checked by schemathesis."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from max_gpt2.serve.settings import Limits, ServedModel
from tests.serve.frontend.servers import Api, api
from tests.serve.frontend.test_chat import TEMPLATE

LIMITS = Limits(max_batch_size=4, queue_size=60, read_s=5)


@pytest.fixture(scope="module")
def described(served: ServedModel) -> Iterator[Api]:
    with api(served, limits=LIMITS, template=TEMPLATE) as made:
        yield made


@pytest.fixture(scope="module")
def schema(described: Api) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{described.port}/openapi.json")


# Errors that depend on two fields, on the tokenizer or on the template; a schema cannot express them.
NOT_IN_SCHEMA = ("incompatible_fields", "context_length_exceeded", "id_out_of_range", "chat_template")
OPERATIONS = [
    ("POST", "/v1/completions"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/health"),
    ("GET", "/version"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
]


def test_every_operation_is_tested(schema: schemathesis.BaseSchema) -> None:
    operations = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    found = {(one.method.upper(), one.path) for one in operations}
    assert found | {("GET", "/openapi.json")} == set(OPERATIONS)  # schemathesis omits the path of the document


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_server_conforms_to_document(
    schema: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    cases = schema[path][method].as_strategy(generation_mode=mode)
    count = 80 if method == "POST" else 10

    @given(case=cases)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def conforms(case: schemathesis.Case[Any]) -> None:
        if method == "GET" or mode is GenerationMode.NEGATIVE:
            case.call_and_validate()
            return
        answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        assert answer.status_code == 200 or answer.json()["error"]["code"] in NOT_IN_SCHEMA, answer.text

    try:
        conforms()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # a request without parameters cannot be invalid
        assert method == "GET"

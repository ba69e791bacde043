"""What the published OpenAPI document says is what the server does, as schemathesis sees it."""

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
def schema_of_it(described: Api) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{described.port}/openapi.json")


# What depends on two fields, on the tokenizer or on the template cannot be said in a schema.
NOT_IN_THE_DOCUMENT = ("incompatible_fields", "context_length_exceeded", "id_out_of_range", "chat_template")
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


def test_every_path_is_tested(schema_of_it: schemathesis.BaseSchema) -> None:
    operations = [one.ok() for one in schema_of_it.get_all_operations() if isinstance(one, Ok)]
    found = {(one.method.upper(), one.path) for one in operations}
    assert found | {("GET", "/openapi.json")} == set(OPERATIONS)  # where the document is from is left out


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_document_tells_the_truth(
    schema_of_it: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    cases = schema_of_it[path][method].as_strategy(generation_mode=mode)
    count = 80 if method == "POST" else 10

    @given(case=cases)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def holds(case: schemathesis.Case[Any]) -> None:
        if method == "GET" or mode is GenerationMode.NEGATIVE:
            case.call_and_validate()
            return
        answer = case.call_and_validate(excluded_checks=[positive_data_acceptance])
        assert answer.status_code == 200 or answer.json()["error"]["code"] in NOT_IN_THE_DOCUMENT, answer.text

    try:
        holds()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # a request without parameters cannot be wrong
        assert method == "GET"

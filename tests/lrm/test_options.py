"""How a model is loaded, as plain values."""

import pytest
import yaml

from bvpo_analysis.errors import InputError
from bvpo_analysis.lrm.options import ModelOptions


def test_options_survive_yaml(tmp_path):
    template = tmp_path / "t.jinja"
    template.write_text("x")
    options = ModelOptions("bfloat16", "cuda:1", "sdpa", "main", True, "<a>\n", "</a>", "", str(template))
    assert ModelOptions.from_plain(yaml.safe_load(yaml.safe_dump(options.plain()))) == options
    assert ModelOptions.from_plain({}) == ModelOptions()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"dtype": "double"}, "--dtype must be one of float32, float64, bfloat16, float16, got 'double'"),
        ({"dtype": None}, "--dtype must be text, got None"),
        ({"device": "cuda:x"}, "--device must be cpu, cuda"),
        ({"device": 0}, "--device must be text, got 0"),
        ({"attention": "lazy"}, "--attention must be one of"),
        ({"trust_remote_code": "yes"}, "--trust-remote-code must be true or false, got 'yes'"),
        ({"revision": 3}, "--revision must be text"),
        ({"think_open": "<a>"}, "--think-open needs --think-close"),
        ({"think_open": "<a>", "think_close": ""}, "--think-open needs --think-close"),
        ({"think_empty": ""}, "--think-empty needs --think-open and --think-close"),
        ({"chat_template": "/no/such/file"}, "no such file; give --chat-template"),
        ({"quantise": True}, "unknown model option 'quantise'; known are dtype, device"),
    ],
)
def test_what_cannot_be_meant_is_refused(values, says):
    with pytest.raises(InputError, match=says):
        ModelOptions.from_plain(values)

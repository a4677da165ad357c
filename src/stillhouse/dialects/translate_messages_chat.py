"""Says an Anthropic Messages request as a chat completion request."""

from __future__ import annotations

from types import MappingProxyType

from stillhouse.dialects.translate_content import parts, parts_of, shortest
from stillhouse.dialects.translate_json import (
    Body,
    Fields,
    an_object,
    arguments_text,
    dump,
    load,
    names,
    number,
    objects,
    refuse,
    text,
)
from stillhouse.dialects.translate_models import THINKING_BUDGETS, limit_name
from stillhouse.dialects.translate_thinking import THINKING, thinking_of

_OWN = "use a model that speaks the Messages format itself"

FIELDS = Fields(
    translated=names(
        "model messages system max_tokens stop_sequences stream temperature top_p tools "
        "tool_choice metadata thinking output_config output_format service_tier"
    ),
    dropped=MappingProxyType(
        {
            "top_k": "the chat format has no such field",
            "cache_control": "chat servers cache by themselves",
            "context_management": "shortens long conversations on Anthropic's side only",
            "diagnostics": "asks Anthropic about its own cache",
            "speed": "a mode of Anthropic's own serving",
            "user_profile_id": "a label for Anthropic",
            "betas": "names features of Anthropic's own serving",
        }
    ),
    refused=MappingProxyType(
        {
            "container": f"leave it out, or {_OWN}",
            "mcp_servers": f"leave it out, or {_OWN}",
            "inference_geo": "leave it out, and choose the region by the model's route",
        }
    ),
)
"""What becomes of each field of a Messages request; docs/reference/translation.md has the words."""

_CHOICES = {"auto": "auto", "none": "none", "any": "required"}
_TIERS = {"auto": "auto", "standard_only": "default"}
_LONGEST_USER = 64
"""OpenAI refuses a longer `user`."""


def request(body: bytes, model: str) -> bytes:
    """Translate a Messages request, to be answered by `model`; a stream is asked for its usage.

    >>> said = request(b'{"model": "fast", "max_tokens": 9, "system": "Be brief.", '
    ...                b'"messages": [{"role": "user", "content": "Hi"}]}', "m")
    >>> load(said, "it")["messages"]
    [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
    """
    asked = load(body, "the request")
    FIELDS.check(asked)
    messages: list[Body] = []
    if asked.get("system"):
        messages.append({"role": "system", "content": shortest(parts(asked["system"], "system"))})
    for at, turn in enumerate(objects(asked.get("messages"), "messages")):
        messages.extend(_messages_of(turn, f"messages[{at}]"))
    said: Body = {"model": model, "messages": messages}
    said[limit_name(model)] = number(asked.get("max_tokens"), "max_tokens")
    if asked.get("stream"):
        said["stream"] = True
        said["stream_options"] = {"include_usage": True}
    for name, called in (
        ("stop_sequences", "stop"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
    ):
        if asked.get(name) not in (None, []):
            said[called] = asked[name]
    _put_tools(asked, said)
    _put_output(asked, said)
    _put_caller(asked, said)
    return dump(said)


def _messages_of(turn: Body, where: str) -> list[Body]:
    role, content = turn.get("role"), turn.get("content")
    if role == "system":
        return [{"role": "system", "content": shortest(parts(content, f"{where}.content"))}]
    if role not in ("user", "assistant"):
        refuse(f"{where}.role", role, "use user, assistant or system")
    if type(content) is str:
        return [{"role": role, "content": content}]
    said = objects(content, f"{where}.content")
    if role == "assistant":
        return [_said_by_assistant(said, f"{where}.content")]
    return _said_by_user(said, f"{where}.content")


def _said_by_user(content: list[Body], where: str) -> list[Body]:
    """Tool results first, a message each, since they must follow their calls; then the rest."""
    results: list[Body] = []
    pictures: list[Body] = []
    rest: list[Body] = []
    for at, block in enumerate(content):
        if block.get("type") != "tool_result":
            rest.extend(parts_of(block, f"{where}[{at}]"))
            continue
        inside = block.get("content")
        said = [] if inside is None else parts(inside, f"{where}[{at}].content")
        shown = [part for part in said if part["type"] != "text"]
        told = [part for part in said if part["type"] == "text"]
        if shown and not told:
            told = [{"type": "text", "text": _SHOWN}]
        pictures.extend(shown)
        results.append(
            {
                "role": "tool",
                "tool_call_id": text(block.get("tool_use_id"), f"{where}[{at}].tool_use_id"),
                "content": shortest(told),
            }
        )
    if pictures or rest or not results:
        results.append({"role": "user", "content": shortest(pictures + rest)})
    return results


_SHOWN = "The result is shown in the next message."
"""Stands in a tool message whose result is an image alone: chat tool messages hold text only."""


def _said_by_assistant(content: list[Body], where: str) -> Body:
    told: list[Body] = []
    calls: list[Body] = []
    for at, block in enumerate(content):
        shape = block.get("type")
        if shape == "text":
            told.append({"type": "text", "text": text(block.get("text"), f"{where}[{at}].text")})
        elif shape == "tool_use":
            calls.append(tool_call(block, f"{where}[{at}]"))
        elif shape not in THINKING:
            refuse(f"{where}[{at}].type", shape, f"send text, thinking or tool_use, or {_OWN}")
    said: Body = {"role": "assistant", "content": shortest(told) if told or not calls else None}
    said |= thinking_of(content)
    if calls:
        said["tool_calls"] = calls
    return said


def tool_call(block: Body, where: str) -> Body:
    """Say a tool_use block as a chat tool call; its id stays."""
    return {
        "id": text(block.get("id"), f"{where}.id"),
        "type": "function",
        "function": {
            "name": text(block.get("name"), f"{where}.name"),
            "arguments": arguments_text(block.get("input")),
        },
    }


def _put_tools(asked: Body, said: Body) -> None:
    if not asked.get("tools"):
        return
    tools = objects(asked["tools"], "tools")
    said["tools"] = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
    if asked.get("tool_choice") is None:
        return
    choice = an_object(asked["tool_choice"], "tool_choice")
    shape = choice.get("type")
    if shape == "tool":
        name = text(choice.get("name"), "tool_choice.name")
        said["tool_choice"] = {"type": "function", "function": {"name": name}}
    elif shape in tuple(_CHOICES):
        said["tool_choice"] = _CHOICES[shape]
    else:
        refuse("tool_choice.type", shape, "use auto, any, none or tool")
    if choice.get("disable_parallel_tool_use") is True and shape != "none":
        said["parallel_tool_calls"] = False


def _tool(tool: Body, where: str) -> Body:
    if tool.get("type") not in (None, "custom"):
        refuse(f"{where}.type", tool["type"], f"offer it as a tool with an input_schema, or {_OWN}")
    function: Body = {"name": text(tool.get("name"), f"{where}.name")}
    if tool.get("description") is not None:
        function["description"] = text(tool["description"], f"{where}.description")
    function["parameters"] = an_object(tool.get("input_schema"), f"{where}.input_schema")
    if type(tool.get("strict")) is bool:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _put_output(asked: Body, said: Body) -> None:
    config = an_object(asked.get("output_config") or {}, "output_config")
    form = config.get("format") or asked.get("output_format")
    if form is not None:
        if an_object(form, "output_config.format").get("type") != "json_schema":
            refuse("output_config.format.type", form.get("type"), "use json_schema")
        schema = an_object(form.get("schema"), "output_config.format.schema")
        shape: Body = {"name": "answer", "schema": schema}
        if _is_strict(schema):
            shape["strict"] = True
        said["response_format"] = {"type": "json_schema", "json_schema": shape}
    thinking = an_object(asked.get("thinking") or {}, "thinking")
    if thinking.get("type") in ("disabled", "between_tools"):
        return
    if config.get("effort") is not None:
        said["reasoning_effort"] = text(config["effort"], "output_config.effort")
    elif thinking.get("type") == "enabled":
        budget = number(thinking.get("budget_tokens"), "thinking.budget_tokens")
        within = [name for name in _BY_BUDGET if budget <= THINKING_BUDGETS[name]]
        said["reasoning_effort"] = within[0] if within else "high"


_BY_BUDGET = ("low", "medium", "high")
"""The efforts that every reasoning model knows."""


def _is_strict(schema: object) -> bool:
    """Whether OpenAI would take a schema as strict: no free members, none optional."""
    if type(schema) is list:
        return all(_is_strict(item) for item in schema)
    if type(schema) is not dict:
        return True
    members = schema.get("properties")
    members = members if type(members) is dict else {}
    if members or schema.get("type") == "object":
        required = schema.get("required")
        named = {str(name) for name in required} if type(required) is list else set()
        if named != set(members) or schema.get("additionalProperties") is not False:
            return False
    inside = [value for name, value in schema.items() if name not in _NO_SCHEMAS]
    return all(_is_strict(value) for value in (*members.values(), *inside))


_NO_SCHEMAS = ("properties", "enum", "const", "default", "examples")


def _put_caller(asked: Body, said: Body) -> None:
    user = an_object(asked.get("metadata") or {}, "metadata").get("user_id")
    if type(user) is str and 0 < len(user) <= _LONGEST_USER:
        said["user"] = user
    if asked.get("service_tier") in tuple(_TIERS):
        said["service_tier"] = _TIERS[asked["service_tier"]]

"""Says an OpenAI Responses request as a chat completion request."""

from __future__ import annotations

from types import MappingProxyType

from stillhouse.dialects.translate_content import shortest
from stillhouse.dialects.translate_json import (
    Body,
    Fields,
    an_object,
    dump,
    load,
    names,
    number,
    objects,
    refuse,
    text,
)
from stillhouse.dialects.translate_models import limit_name
from stillhouse.dialects.translate_reasoning import of_item

_OWN = "use a model that speaks the Responses format itself"
_WHOLE = "send the whole conversation as `input`: nothing is stored between calls"

FIELDS = Fields(
    translated=names(
        "model input instructions stream stream_options max_output_tokens temperature top_p "
        "presence_penalty frequency_penalty tools tool_choice parallel_tool_calls text "
        "reasoning user safety_identifier prompt_cache_key service_tier include"
    ),
    dropped=MappingProxyType(
        {
            "store": "nothing is stored; the answer says `store: false`",
            "metadata": "given back in the answer",
            "truncation": "the upstream decides; a conversation that is too long is its error",
            "max_tool_calls": "counts built-in tools, and none is offered",
            "prompt_cache_options": "only steers OpenAI's own cache",
            "prompt_cache_retention": "only steers OpenAI's own cache",
            "context_management": "shortens long conversations on OpenAI's side only",
            "image": "only compresses images on OpenAI's side",
        }
    ),
    refused=MappingProxyType(
        {
            "previous_response_id": _WHOLE,
            "conversation": _WHOLE,
            "prompt": "send the prompt's text as `instructions` and `input`",
            "background": "wait for the answer, or stream it",
            "background_options": "wait for the answer, or stream it",
            "top_logprobs": f"leave it out, or {_OWN}",
            "moderation": f"leave it out, or {_OWN}",
            "access_programs": f"leave it out, or {_OWN}",
        }
    ),
)
"""What becomes of each field of a Responses request; docs/reference/translation.md says it too."""

_AS_THEY_ARE = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
)


def request(body: bytes, model: str) -> bytes:
    """Translate a Responses request, to be answered by `model`; a stream is asked for its usage.

    >>> said = request(b'{"model": "fast", "instructions": "Be brief.", "input": "Hi"}', "m")
    >>> load(said, "it")["messages"]
    [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hi'}]
    """
    asked = load(body, "the request")
    FIELDS.check(asked)
    said: Body = {"model": model, "messages": _messages(asked)}
    if asked.get("max_output_tokens") is not None:
        said[limit_name(model)] = number(asked["max_output_tokens"], "max_output_tokens")
    if asked.get("stream"):
        said["stream"] = True
        said["stream_options"] = {"include_usage": True}
    said |= {name: asked[name] for name in _AS_THEY_ARE if asked.get(name) is not None}
    _put_tools(asked, said)
    _put_output(asked, said)
    return dump(said)


def _messages(asked: Body) -> list[Body]:
    said: list[Body] = []
    if asked.get("instructions"):
        instructions = text(asked["instructions"], "instructions")
        said.append({"role": "system", "content": instructions})
    given = asked.get("input")
    if type(given) is str:
        return [*said, {"role": "user", "content": given}]
    turn: Body | None = None  # what the model said since somebody else spoke
    for at, item in enumerate(objects(given, "input")):
        where = f"input[{at}]"
        shape = item.get("type", "message")
        told = shape == "message" and item.get("role") == "assistant"
        if not told and shape not in ("reasoning", "function_call"):
            turn = None
            said.append(_other(item, shape, where))
            continue
        if turn is None or (told and turn["content"] is not None):
            turn = {"role": "assistant", "content": None}
            said.append(turn)
        if told:
            turn["content"] = shortest(_parts(item.get("content"), f"{where}.content"))
        elif shape == "reasoning":
            _join(turn, of_item(item, where))
        else:
            turn.setdefault("tool_calls", []).append(_call(item, where))
    # Reasoning that nothing follows has nothing to say to the model.
    return [turn for turn in said if turn["content"] is not None or turn.get("tool_calls")]


def _join(turn: Body, thought: Body) -> None:
    """Add one reasoning item to a turn that may have another one before it."""
    for name, value in thought.items():
        turn[name] = turn[name] + value if name in turn else value


def _other(item: Body, shape: object, where: str) -> Body:
    if shape == "function_call_output":
        given = item.get("output")
        return {
            "role": "tool",
            "tool_call_id": text(item.get("call_id"), f"{where}.call_id"),
            "content": given if type(given) is str else shortest(_parts(given, f"{where}.output")),
        }
    if shape == "item_reference":
        refuse(f"{where}.type", shape, _WHOLE)
    if shape != "message":
        refuse(f"{where}.type", shape, f"send messages, function calls and reasoning, or {_OWN}")
    role = item.get("role")
    if role not in ("user", "system", "developer"):
        refuse(f"{where}.role", role, "use user, assistant, system or developer")
    # Older servers know no `developer`; every one knows its elder name.
    called = "user" if role == "user" else "system"
    return {"role": called, "content": shortest(_parts(item.get("content"), f"{where}.content"))}


def _call(item: Body, where: str) -> Body:
    return {
        "id": text(item.get("call_id"), f"{where}.call_id"),
        "type": "function",
        "function": {
            "name": text(item.get("name"), f"{where}.name"),
            "arguments": text(item.get("arguments"), f"{where}.arguments"),
        },
    }


def _parts(content: object, where: str) -> list[Body]:
    if type(content) is str:
        return [{"type": "text", "text": content}]
    return [_part(part, f"{where}[{at}]") for at, part in enumerate(objects(content, where))]


def _part(part: Body, where: str) -> Body:
    shape = part.get("type")
    if shape in ("input_text", "output_text", "text"):
        return {"type": "text", "text": text(part.get("text"), f"{where}.text")}
    if shape == "refusal":
        return {"type": "text", "text": text(part.get("refusal"), f"{where}.refusal")}
    if shape == "input_image":
        if part.get("image_url") is None:
            refuse(f"{where}.file_id", part.get("file_id"), "send the image itself as image_url")
        image: Body = {"url": text(part["image_url"], f"{where}.image_url")}
        if type(part.get("detail")) is str:
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    if shape == "input_file":
        if part.get("file_data") is None:
            refuse(f"{where}.file_data", None, "send the file's bytes as file_data")
        file = {"file_data": text(part["file_data"], f"{where}.file_data")}
        if type(part.get("filename")) is str:
            file = {"filename": part["filename"], **file}
        return {"type": "file", "file": file}
    return refuse(f"{where}.type", shape, "send input_text, input_image or input_file parts")


def _put_tools(asked: Body, said: Body) -> None:
    if not asked.get("tools"):
        return
    tools = objects(asked["tools"], "tools")
    said["tools"] = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(tools)]
    if type(asked.get("parallel_tool_calls")) is bool:
        said["parallel_tool_calls"] = asked["parallel_tool_calls"]
    choice = asked.get("tool_choice")
    if choice is None:
        return
    if choice in ("auto", "none", "required"):
        said["tool_choice"] = choice
    elif type(choice) is dict and choice.get("type") == "function":
        said["tool_choice"] = _named(choice, "tool_choice")
    elif type(choice) is dict and choice.get("type") == "allowed_tools":
        allowed = objects(choice.get("tools"), "tool_choice.tools")
        among = [_named(tool, f"tool_choice.tools[{at}]") for at, tool in enumerate(allowed)]
        said["tool_choice"] = {
            "type": "allowed_tools",
            "allowed_tools": {"mode": choice.get("mode", "auto"), "tools": among},
        }
    else:
        refuse("tool_choice", choice, "use auto, none, required, allowed_tools or a function")


def _named(tool: Body, where: str) -> Body:
    name = text(tool.get("name"), f"{where}.name")
    return {"type": "function", "function": {"name": name}}


def _tool(tool: Body, where: str) -> Body:
    if tool.get("type") != "function":
        refuse(f"{where}.type", tool.get("type"), f"offer it as a function, or {_OWN}")
    function: Body = {"name": text(tool.get("name"), f"{where}.name")}
    if tool.get("description") is not None:
        function["description"] = text(tool["description"], f"{where}.description")
    if tool.get("parameters") is not None:
        function["parameters"] = an_object(tool["parameters"], f"{where}.parameters")
    if type(tool.get("strict")) is bool:
        function["strict"] = tool["strict"]
    return {"type": "function", "function": function}


def _put_output(asked: Body, said: Body) -> None:
    if asked.get("include") and "message.output_text.logprobs" in asked["include"]:
        refuse("include", "message.output_text.logprobs", f"leave it out, or {_OWN}")
    config = an_object(asked.get("text") or {}, "text")
    if config.get("verbosity") is not None:
        said["verbosity"] = config["verbosity"]
    form = an_object(config.get("format") or {}, "text.format")
    if form.get("type") == "json_schema":
        names = ("name", "description", "schema", "strict")
        shape = {name: form[name] for name in names if form.get(name) is not None}
        said["response_format"] = {"type": "json_schema", "json_schema": shape}
    elif form.get("type") == "json_object":
        said["response_format"] = {"type": "json_object"}
    elif form.get("type") not in (None, "text"):
        refuse("text.format.type", form["type"], "use text, json_schema or json_object")
    effort = an_object(asked.get("reasoning") or {}, "reasoning").get("effort")
    if effort is not None:
        said["reasoning_effort"] = text(effort, "reasoning.effort")

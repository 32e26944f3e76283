"""The official Anthropic SDK as a customer: `anthropic_sdk.py GATEWAY BASE_URL MODEL SCENARIO...`. Prints what it has seen."""

import json
import sys

import anthropic
import httpx2
from mpp_auth import play

gateway, base_url, MODEL, *names = sys.argv[1:]
TOOLS = [
    {
        "name": "get_weather",
        "description": "The weather in a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def client(transport, retries=0):
    http = httpx2.Client(transport=transport, timeout=30)
    return anthropic.Anthropic(api_key="sk-of-the-client", base_url=base_url, http_client=http, max_retries=retries)


def asks(text):
    return [{"role": "user", "content": text}]


def answered(message):
    text = "".join(block.text for block in message.content if block.type == "text")
    usage = {name: getattr(message.usage, name) for name in ("input_tokens", "output_tokens")}
    return {"text": text, "stop": message.stop_reason, "usage": usage, "model": message.model}


def complete(transport):
    return answered(client(transport).messages.create(model=MODEL, max_tokens=64, messages=asks("hello")))


def stream(transport):
    """The events as they come."""
    names, text = [], ""
    with client(transport).messages.create(model=MODEL, max_tokens=64, messages=asks("hello"), stream=True) as events:
        for event in events:
            names.append(event.type)
            if event.type == "content_block_delta":
                text += event.delta.text
    return {"names": names, "text": text}


def helper(transport):
    """The SDK's own helper, which puts the message together."""
    pieces = []
    with client(transport).messages.stream(model=MODEL, max_tokens=64, messages=asks("hello")) as stream:
        pieces.extend(stream.text_stream)
        return {"pieces": pieces, **answered(stream.get_final_message())}


def tools(transport):
    messages = asks("what is the weather?")
    with client(transport).messages.stream(model=MODEL, max_tokens=64, messages=messages, tools=TOOLS) as stream:
        first = stream.get_final_message()
    [call] = [block for block in first.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": json.dumps({"celsius": 21})}
    messages.append({"role": "assistant", "content": [block.to_dict() for block in first.content]})
    messages.append({"role": "user", "content": [result]})
    second = client(transport).messages.create(model=MODEL, max_tokens=64, messages=messages, tools=TOOLS)
    return {"first": answered(first), "called": [call.name, call.input], **answered(second)}


def failed(transport, text, model=MODEL, **more):
    """The error that the SDK raises."""
    try:
        answer = client(transport).messages.create(model=model, max_tokens=64, messages=asks(text), **more)
        for _ in answer if more.get("stream") else []:
            pass
    except anthropic.APIStatusError as error:
        headers = error.response.headers
        return {
            "error": type(error).__name__,
            "status": error.status_code,
            "message": error.message,
            "outcome": headers.get("payment-outcome"),
            "type": headers.get("content-type"),
            "challenged": "www-authenticate" in headers,
        }
    except (anthropic.APIConnectionError, httpx2.HTTPError) as error:
        return {"error": type(error).__name__}
    return {"error": None}


def rate_limited(transport):
    return failed(transport, "too much")


def overloaded(transport):
    return failed(transport, "overloaded")


def unknown_model(transport):
    return failed(transport, "hello", model="unknown")


def retried(transport):
    message = client(transport, retries=2).messages.create(model=MODEL, max_tokens=64, messages=asks("busy at first"))
    return answered(message)


def left_early(transport):
    with client(transport).messages.create(model=MODEL, max_tokens=64, messages=asks("a long story"), stream=True) as events:
        first = next(iter(events))
    return {"type": first.type}


def cut(transport):
    return failed(transport, "breaks off", stream=True)


known = {complete, stream, helper, tools, rate_limited, overloaded, unknown_model, retried, left_early, cut}
json.dump(play(gateway, {scenario.__name__: scenario for scenario in known}, names), sys.stdout)

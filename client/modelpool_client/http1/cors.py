"""What a browser is told so that an allowed page may ask and read (https://fetch.spec.whatwg.org,
3.2). Who is allowed is the guard's business."""

from __future__ import annotations

from modelpool_client.errors import ModelPoolError

from .exchange import Exchange
from .message import Headers, Request

# Of what models answer: those of llama.cpp's server, word for word. HEAD needs no leave.
MODEL_METHODS = b"GET, POST, DELETE, OPTIONS"
ALL_METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
ORIGIN = "origin"
# Chromium remembers no longer. The actual requests are checked all the same.
MAX_AGE_SECONDS = 7200


def answer_page(exchange: Exchange, origin: bytes, methods: bytes) -> bool:
    """Let a page of that origin read the answer, whatever comes. True if it has it already: it was
    a preflight, which only asks what may be asked, by which ``methods``."""
    # ``*`` is every header there is, as no request with cookies is allowed (3.2.5). Written as the
    # standard writes them: scripts look for them in dictionaries that know no other case.
    exchange.headers += [
        (b"Access-Control-Allow-Origin", origin),
        (b"Access-Control-Expose-Headers", b"*"),
        (b"vary", b"Origin"),
    ]
    is_preflight = is_preflight_request(exchange.request)
    if is_preflight:
        # 204 would do by the standard; some clients and older browsers take 200 only.
        exchange.send(200, preflight_headers(exchange.request, methods), b"")
    return is_preflight


def answer_stranger(exchange: Exchange, refusal: ModelPoolError) -> bool:
    """Tell a preflight of an origin that is not allowed that nothing is: by the lack of headers,
    as the standard has it. Whoever asks by hand reads why. False: it is no such request, and an
    error like any other."""
    if refusal.param != ORIGIN or not is_preflight_request(exchange.request):
        return False
    exchange.code = refusal.code
    exchange.send_json(200, exchange.dialect.error(refusal), *refusal.raw_headers())
    return True


def is_preflight_request(request: Request) -> bool:
    """Whether a browser asks on its own account, before it sends what its page wants."""
    return request.method == "OPTIONS" and b"access-control-request-method" in request.fields


def preflight_headers(request: Request, methods: bytes) -> Headers:
    """Every method and whatever headers are asked for: a page that is allowed may do all that a
    program on this machine may."""
    headers = [
        (b"Access-Control-Allow-Methods", methods),
        (b"Access-Control-Max-Age", b"%d" % MAX_AGE_SECONDS),
    ]
    wanted = request.fields.get(b"access-control-request-headers")
    if wanted:
        headers.append((b"Access-Control-Allow-Headers", wanted))
    # https://wicg.github.io/private-network-access: from the internet to this machine.
    if request.fields.get(b"access-control-request-private-network") == b"true":
        headers.append((b"Access-Control-Allow-Private-Network", b"true"))
    return headers

"""The headers of every answer that tell browsers what not to do with it, put together once by `secure`.

An answer of an API is not a page: it is neither framed, nor kept, nor run, nor guessed at. The one page there is,
/docs, gets a policy of its own and is otherwise treated alike.
"""

from typing import Final

from secure import (
    CacheControl,
    ContentSecurityPolicy,
    CrossOriginOpenerPolicy,
    CrossOriginResourcePolicy,
    CustomHeader,
    ReferrerPolicy,
    Secure,
    StrictTransportSecurity,
    XContentTypeOptions,
    XFrameOptions,
)

Headers = tuple[tuple[str, str], ...]
_NONE: Final = "'none'"
_SELF: Final = "'self'"
_YEAR_S: Final = 31_536_000


def _of_answers(*, is_tls: bool) -> Headers:
    policy = ContentSecurityPolicy().default_src(_NONE).base_uri(_NONE).form_action(_NONE).frame_ancestors(_NONE)
    headers = Secure(
        cache=CacheControl().no_store(),
        coop=CrossOriginOpenerPolicy().same_origin(),
        corp=CrossOriginResourcePolicy().same_origin(),
        csp=policy,
        # Only where the way here is TLS: a browser ignores it elsewhere, and a person who reads it would believe it.
        hsts=StrictTransportSecurity().max_age(_YEAR_S).include_subdomains() if is_tls else None,
        referrer=ReferrerPolicy().no_referrer(),
        xcto=XContentTypeOptions().nosniff(),
        xfo=XFrameOptions().deny(),
        custom=[CustomHeader("X-XSS-Protection", "0")],  # the filters it once steered could be used to leak a page
    )
    return tuple(headers.validate_and_normalize_headers(on_invalid="raise").headers.items())


PLAIN: Final = _of_answers(is_tls=False)
TLS: Final = _of_answers(is_tls=True)
PAGE_POLICY: Final = (
    ContentSecurityPolicy()
    .default_src(_NONE)
    .script_src(_SELF)
    .style_src(_SELF)
    .img_src(_SELF, "data:")
    .connect_src(_SELF)
    .base_uri(_NONE)
    .form_action(_NONE)
    .frame_ancestors(_NONE)
    .header_value
)
"""Of /docs."""


def of_answer(*, is_tls: bool) -> Headers:
    """Return the headers of an answer over TLS or not."""
    return TLS if is_tls else PLAIN

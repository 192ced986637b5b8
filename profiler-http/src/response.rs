//! Responses: the few forms there are, with Go's headers.

use bytes::Bytes;
use http::header::{
    ALLOW, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, StatusCode};

use crate::percent::encode_non_ascii;

pub(crate) type Response = http::Response<Bytes>;

/// What a body is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Text,
    Html,
    Binary,
}

impl Content {
    const fn value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Binary => "application/octet-stream",
        })
    }
}

/// Returns a response with that body.
pub(crate) fn with(status: StatusCode, content: Content, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content.value());
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Returns a success with that body.
pub(crate) fn ok(content: Content, body: impl Into<Bytes>) -> Response {
    with(StatusCode::OK, content, body)
}

/// Returns a success that a browser saves under that name.
pub(crate) fn attachment(name: &str, body: Vec<u8>) -> Response {
    let mut response = ok(Content::Binary, body);
    // The name of a custom profile may hold what a header may not.
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, value);
    }
    response
}

/// Adds what a profile says about itself, a header of that name each.
pub(crate) fn add_comments(response: &mut Response, name: &'static str, comments: &[String]) {
    for comment in comments {
        if let Ok(value) = HeaderValue::from_str(comment) {
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
}

/// Returns an error of the profiler's own, with a sentence that `go tool pprof` shows.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    let mut response = plain(status, message);
    // `go tool pprof` shows the body of an error only where this stands.
    let mark = HeaderName::from_static("x-go-pprof");
    response.headers_mut().insert(mark, HeaderValue::from_static("1"));
    response
}

/// Returns an error of the way to the profiler, as Go's own routing gives it.
pub(crate) fn plain(status: StatusCode, message: &str) -> Response {
    with(status, Content::Text, format!("{message}\n"))
}

/// Returns the answer to a method that the path does not take.
pub(crate) fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// Returns a redirect within this server.
pub(crate) fn redirect(target: &str, method: &Method) -> Response {
    let target = encode_non_ascii(target);
    let page = format!("<a href=\"{}\">Temporary Redirect</a>.\n\n", escape_html(&target));
    // Go writes the little page for GET only.
    let body = if method == Method::GET { page } else { String::new() };
    let mut response = with(StatusCode::TEMPORARY_REDIRECT, Content::Html, body);
    // Only printable ASCII is left, so this is always a header.
    if let Ok(value) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// Sets `Content-Length`, and takes the body away if only the headers were asked for.
pub(crate) fn finish(mut response: Response, method: &Method) -> Response {
    let length = HeaderValue::from(response.body().len());
    response.headers_mut().insert(CONTENT_LENGTH, length);
    if method == Method::HEAD {
        *response.body_mut() = Bytes::new();
    }
    response
}

/// Escapes text for HTML, attributes included.
pub(crate) fn escape_html(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, letter| {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_profiler_carry_its_mark() {
        let marked = |response: Response| response.headers().contains_key("x-go-pprof");
        assert!(marked(error(StatusCode::NOT_FOUND, "Unknown profile")));
        assert!(!marked(plain(StatusCode::NOT_FOUND, "404 page not found")));
        assert!(!marked(method_not_allowed("GET, HEAD")));
        assert!(!marked(ok(Content::Text, "")));
    }

    #[test]
    fn a_name_that_is_no_header_loses_the_header_and_nothing_else() {
        let response = attachment("a\nb", vec![1]);
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key(CONTENT_DISPOSITION));
    }

    #[test]
    fn head_keeps_the_length_and_drops_the_body() {
        let response = finish(ok(Content::Text, "four"), &Method::HEAD);
        assert_eq!(response.headers()[CONTENT_LENGTH], "4");
        assert!(response.body().is_empty());
    }

    #[test]
    fn html_is_escaped_in_text_and_attributes() {
        assert_eq!(escape_html(r#"<a href="x">'&'"#), "&lt;a href=&#34;x&#34;&gt;&#39;&amp;&#39;");
    }
}

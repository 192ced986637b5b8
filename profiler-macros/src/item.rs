//! The annotated item, read no deeper than needed.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use syn::parse::discouraged::Speculative;
use syn::parse::{Parse, ParseStream};
use syn::token::Brace;
use syn::{
    Attribute, Error, Expr, Ident, ItemImpl, Path, Result, Signature, Token, Visibility, braced,
};

/// What the attribute goes on.
pub(crate) enum Item {
    Function(Box<Function>),
    Block(Box<ItemImpl>),
}

/// A function with a body: free, of an `impl` block, or a default method of a trait.
///
/// The body stays tokens: most functions need no look inside, and syntax newer than our parser
/// does no harm there.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    visibility: Visibility,
    default: Option<Token![default]>,
    pub(crate) signature: Signature,
    pub(crate) brace: Brace,
    inner_attrs: Vec<Attribute>,
    pub(crate) body: TokenStream,
}

impl Parse for Item {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let start = input.fork();
        let attrs = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let default = if input.peek2(Token![!]) { None } else { input.parse()? };

        let ahead = input.fork();
        let Ok(signature) = ahead.parse() else {
            if input.peek(Token![impl]) || input.peek2(Token![impl]) {
                let block = start.parse()?;
                input.advance_to(&start);
                return Ok(Self::Block(Box::new(block)));
            }
            return Err(not_measurable(input));
        };
        input.advance_to(&ahead);
        if input.peek(Token![;]) {
            let signature: Signature = signature;
            return Err(Error::new(
                signature.ident.span(),
                "there is no body to measure: put `#[profiled]` on the implementations",
            ));
        }
        let content;
        let brace = braced!(content in input);
        let inner_attrs = content.call(Attribute::parse_inner)?;
        let body = keep_precedence(content.parse()?);
        let function = Function { attrs, visibility, default, signature, brace, inner_attrs, body };
        Ok(Self::Function(Box::new(function)))
    }
}

/// Says what the item is instead, at the word that tells it.
fn not_measurable(input: ParseStream<'_>) -> Error {
    let words = ["struct", "enum", "union", "trait", "mod", "const", "static", "type", "use"];
    let tokens = input.fork().parse::<TokenStream>().unwrap_or_default();
    let found = tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if words.iter().any(|word| ident == word) => Some(ident),
        _ => None,
    });
    let message = "`#[profiled]` goes on functions and `impl` blocks";
    match found {
        Some(word) if word == "trait" => Error::new(
            word.span(),
            format!("{message}; in a trait, put it on the methods that have a body"),
        ),
        Some(word) => Error::new(word.span(), format!("{message}, not on `{word}`")),
        None => input.error(message),
    }
}

impl Function {
    /// Takes away the mark that says that other attributes come first.
    pub(crate) fn take_mark(&mut self) -> Option<Attribute> {
        let index = self.attrs.iter().position(|attr| ends_in(attr.path(), "profiled_last"))?;
        Some(self.attrs.remove(index))
    }

    /// Tells whether an `#[instrument]` has yet to expand, be it behind a `cfg_attr`.
    pub(crate) fn instrument_follows(&self) -> bool {
        self.attrs.iter().any(|attr| {
            ends_in(attr.path(), "instrument")
                || attr.path().is_ident("cfg_attr")
                    && find(attr.meta.to_token_stream(), "instrument").is_some()
        })
    }

    /// Returns where the span of an expanded `#[instrument]` says that it is.
    ///
    /// The variable and the `span!` that fills it are one expansion, hence `line!()` at the
    /// variable is the line in the span's metadata.
    pub(crate) fn instrumented(&self) -> Option<Span> {
        find(self.body.clone(), "__tracing_attr_span").map(|ident| ident.span())
    }

    /// Prints the function with another body.
    pub(crate) fn with_body(&self, body: &TokenStream) -> TokenStream {
        let Self { attrs, visibility, default, signature, .. } = self;
        let mut tokens = quote!(#(#attrs)* #visibility #default #signature);
        self.brace.surround(&mut tokens, |tokens| {
            tokens.append_all(&self.inner_attrs);
            body.to_tokens(tokens);
        });
        tokens
    }
}

/// Recognizes our own attribute.
pub(crate) fn is_profiled(attr: &Attribute) -> bool {
    ends_in(attr.path(), "profiled")
}

fn ends_in(path: &Path, word: &str) -> bool {
    path.segments.last().is_some_and(|segment| segment.ident == word)
}

/// Finds a word anywhere in the tokens.
pub(crate) fn find(tokens: TokenStream, word: &str) -> Option<Ident> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == word => Some(ident),
        TokenTree::Group(group) => find(group.stream(), word),
        _ => None,
    })
}

/// Puts parentheses around what a `macro_rules!` macro passed as one expression.
///
/// The compiler forgets such invisible groups when an attribute hands them back, and
/// `$price * 2` with `a + b` would become `a + b * 2` (rust-lang/rust#67062).
fn keep_precedence(tokens: TokenStream) -> TokenStream {
    if !holds_operation(tokens.clone()) {
        return tokens;
    }
    let one = |token| {
        let TokenTree::Group(group) = token else { return token };
        let (delimiter, span) = if is_operation(&group) {
            (Delimiter::Parenthesis, Span::mixed_site().located_at(group.span()))
        } else {
            (group.delimiter(), group.span())
        };
        let mut kept = Group::new(delimiter, keep_precedence(group.stream()));
        kept.set_span(span);
        TokenTree::Group(kept)
    };
    tokens.into_iter().map(one).collect()
}

fn holds_operation(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => is_operation(&group) || holds_operation(group.stream()),
        _ => false,
    })
}

/// Tells whether it is an invisible group around something that operators beside it would part.
fn is_operation(group: &Group) -> bool {
    group.delimiter() == Delimiter::None
        && matches!(
            syn::parse2(group.stream()),
            Ok(Expr::Binary(_)
                | Expr::Cast(_)
                | Expr::Closure(_)
                | Expr::Range(_)
                | Expr::RawAddr(_)
                | Expr::Reference(_)
                | Expr::Unary(_))
        )
}

//! The options between the parentheses.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::token::Paren;
use syn::{Error, Expr, Ident, LitStr, Path, Result, Token, parenthesized};

/// The options of one attribute, each given at most once.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) name: Option<LitStr>,
    pub(crate) labels: Option<Labels>,
    pub(crate) skip: Option<Span>,
    pub(crate) krate: Option<Path>,
}

/// `labels(key = value, …)`.
pub(crate) struct Labels {
    pub(crate) keyword: Ident,
    pub(crate) pairs: Vec<Label>,
}

/// `key = value`.
pub(crate) struct Label {
    key: Ident,
    pub(crate) value: Expr,
}

impl Label {
    /// Returns the key as it stands in profiles: `r#type` is `type`.
    pub(crate) fn key(&self) -> LitStr {
        LitStr::new(&self.key.unraw().to_string(), self.key.span())
    }
}

impl Args {
    /// Returns where the runtime is found.
    pub(crate) fn krate(&self) -> TokenStream {
        self.krate.as_ref().map_or_else(|| quote!(::profiler_core), ToTokens::to_token_stream)
    }
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Self::default();
        while !input.is_empty() {
            let keyword = input.call(Ident::parse_any).map_err(|error| {
                Error::new(error.span(), format!("expected an option: {OPTIONS}"))
            })?;
            let repeated = match keyword.to_string().as_str() {
                "name" => args.name.replace(name(&keyword, input)?).is_some(),
                "labels" => args.labels.replace(labels(&keyword, input)?).is_some(),
                "skip" => args.skip.replace(keyword.span()).is_some(),
                "crate" => {
                    equals(&keyword, "crate = path", input)?;
                    args.krate.replace(input.call(Path::parse_mod_style)?).is_some()
                }
                other => {
                    let message = format!("unknown option `{other}`: expected {OPTIONS}");
                    return Err(Error::new(keyword.span(), message));
                }
            };
            if repeated {
                return Err(Error::new(keyword.span(), format!("`{keyword}` is given twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}

const OPTIONS: &str = "`name = \"…\"`, `labels(key = expression, …)`, `skip` or `crate = path`";

/// Reads the `=`; points at the word before it if there is none.
fn equals(word: &Ident, expected: &str, input: ParseStream<'_>) -> Result<()> {
    if input.peek(Token![=]) {
        input.parse::<Token![=]>()?;
        return Ok(());
    }
    Err(Error::new(word.span(), format!("expected `{expected}`")))
}

fn name(keyword: &Ident, input: ParseStream<'_>) -> Result<LitStr> {
    equals(keyword, "name = \"…\"", input)?;
    let name: LitStr = input.parse()?;
    if name.value().is_empty() {
        return Err(Error::new(name.span(), "a name has at least one character"));
    }
    Ok(name)
}

fn labels(keyword: &Ident, input: ParseStream<'_>) -> Result<Labels> {
    let missing = || Error::new(keyword.span(), "expected `labels(key = expression, …)`");
    if !input.peek(Paren) {
        return Err(missing());
    }
    let content;
    parenthesized!(content in input);
    let pairs: Vec<Label> =
        Punctuated::<_, Token![,]>::parse_terminated(&content)?.into_iter().collect();
    if pairs.is_empty() {
        return Err(missing());
    }
    for (index, label) in pairs.iter().enumerate() {
        if pairs.iter().take(index).any(|earlier| earlier.key == label.key) {
            let message = format!("the label `{}` is given twice", label.key);
            return Err(Error::new(label.key.span(), message));
        }
    }
    Ok(Labels { keyword: keyword.clone(), pairs })
}

impl Parse for Label {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.call(Ident::parse_any).map_err(|error| {
            Error::new(error.span(), "expected the label's key, a word without quotes")
        })?;
        equals(&key, &format!("{key} = expression"), input)?;
        Ok(Self { key, value: input.parse()? })
    }
}

// `skip` is left out: what is skipped is never handed on.
impl ToTokens for Args {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let name = self.name.iter();
        let labels = self.labels.iter().map(|labels| {
            let keys = labels.pairs.iter().map(|label| &label.key);
            let values = labels.pairs.iter().map(|label| &label.value);
            quote!(labels(#(#keys = #values),*))
        });
        let krate = self.krate.iter();
        tokens.extend(quote!(#(name = #name,)* #(#labels,)* #(crate = #krate,)*));
    }
}

//! The calls around the body.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Error, ImplItem, ItemImpl, Result, ReturnType, Type, parse_quote, parse2};

use crate::args::Args;
use crate::item::{Function, Item, is_profiled};
use crate::tail::wrap_futures;

/// Expands `#[profiled]`.
pub(crate) fn profiled(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options, item, |args, item| match item {
        Item::Function(function) => first(args, *function),
        Item::Block(block) => every_method(&args, *block),
    })
}

/// Expands the mark that `#[profiled]` left behind.
pub(crate) fn profiled_last(options: TokenStream, item: TokenStream) -> TokenStream {
    expand(options, item, |args, item| match item {
        Item::Function(function) => Ok(last(&args, &function)),
        Item::Block(block) => Err(Error::new_spanned(block.impl_token, "use `#[profiled]` here")),
    })
}

/// Reads both and expands; after an error, the item stays as it was, without our attributes.
fn expand(
    options: TokenStream,
    item: TokenStream,
    then: impl FnOnce(Args, Item) -> Result<TokenStream>,
) -> TokenStream {
    let parsed = parse2::<Item>(item.clone());
    let unchanged = parsed.as_ref().map_or(item, without_us);
    let expanded = match (parse2(options), parsed) {
        (Ok(args), Ok(item)) => then(args, item),
        (Err(mut error), Err(other)) => {
            error.combine(other);
            Err(error)
        }
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
    };
    expanded.unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote!(#unchanged #error)
    })
}

/// Leaves the mark on every function of the block; each is expanded on its own afterwards.
///
/// So a `#[profiled(…)]` on a method, behind a `cfg_attr` or under another name, comes first and
/// finds the mark.
fn every_method(args: &Args, mut block: ItemImpl) -> Result<TokenStream> {
    let span = match args {
        Args { skip: Some(span), .. } => Some(*span),
        Args { name: Some(name), .. } => Some(name.span()),
        Args { labels: Some(labels), .. } => Some(labels.keyword.span()),
        _ => None,
    };
    if let Some(span) = span {
        return Err(Error::new(span, "this option is for one function: put it on the method"));
    }
    for item in &mut block.items {
        if let ImplItem::Fn(method) = item {
            method.attrs.push(mark(args));
        }
    }
    Ok(block.into_token_stream())
}

fn mark(args: &Args) -> syn::Attribute {
    let krate = args.krate();
    parse_quote!(#[#krate::__private::profiled_last(#args)])
}

fn without_us(item: &Item) -> TokenStream {
    match item {
        Item::Function(function) => {
            let mut function = function.clone();
            function.take_mark();
            function.attrs.retain(|attr| !is_profiled(attr));
            function.with_body(&function.body)
        }
        Item::Block(block) => {
            let mut block = block.clone();
            for item in &mut block.items {
                if let ImplItem::Fn(method) = item {
                    method.attrs.retain(|attr| !is_profiled(attr));
                }
            }
            block.into_token_stream()
        }
    }
}

/// Expands a function, unless another attribute has to come first.
fn first(mut args: Args, mut function: Function) -> Result<TokenStream> {
    let mark = function.take_mark();
    if let Some(mark) = &mark {
        let block: Args = mark.parse_args()?;
        args.krate = args.krate.or(block.krate);
    }
    if let Some(repeated) = function.attrs.iter().find(|attr| is_profiled(attr)) {
        return Err(Error::new_spanned(repeated, "`#[profiled]` is given twice"));
    }
    if let Some(span) = args.skip {
        if mark.is_none() {
            let message = "`skip` is for a method of an annotated `impl` block; \
                           elsewhere, leave `#[profiled]` out";
            return Err(Error::new(span, message));
        }
        return Ok(function.with_body(&function.body));
    }
    if let Some(constness) = function.signature.constness {
        let message = "a `const fn` may run in the compiler, where nothing can be measured";
        return Err(Error::new_spanned(constness, message));
    }
    if function.instrument_follows() {
        function.attrs.push(self::mark(&args));
        return Ok(function.with_body(&function.body));
    }
    Ok(last(&args, &function))
}

fn last(args: &Args, function: &Function) -> TokenStream {
    if function.signature.constness.is_some() {
        return function.with_body(&function.body);
    }
    let body = if function.signature.asyncness.is_some() {
        Some(asynchronous(args, function))
    } else {
        returned_future(args, function)
    };
    body.map_or_else(|| out_of_line(args, function), |body| function.with_body(&body))
}

/// A function that stands in stacks by its name, without debug information as well: inlined it would be its caller. Futures
/// are polled out of line.
fn out_of_line(args: &Args, function: &Function) -> TokenStream {
    let mut function = function.clone();
    if !function.attrs.iter().any(|attr| attr.path().is_ident("inline")) {
        function.attrs.push(parse_quote!(#[inline(never)]));
    }
    function.with_body(&synchronous(args, &function))
}

fn synchronous(args: &Args, function: &Function) -> TokenStream {
    let krate = args.krate();
    let labels =
        labels(args).map(|labels| quote!(let _labels = #krate::__private::enter_labels(#labels);));
    let site = site(args, function);
    let body = block(function, function.body.clone());
    quote! {
        #labels
        let _entered = #krate::__private::enter(#site);
        #body
    }
}

fn asynchronous(args: &Args, function: &Function) -> TokenStream {
    let output = output_hint(args, &function.signature.output);
    let body = block(function, function.body.clone());
    let future = quote!(async move { #output #body });
    let measured = measured(args, &site(args, function), &future);
    let labels = bound_labels(args);
    // Nothing can be named that has the type `!`, so the inner block may have given it another.
    let never = matches!(&function.signature.output, ReturnType::Type(_, ty) if is_never(ty))
        .then(|| quote!(; ::core::unreachable!()));
    quote! {
        #labels
        #measured.await #never
    }
}

/// A function that ends in futures: they are measured, not the making of them.
fn returned_future(args: &Args, function: &Function) -> Option<TokenStream> {
    if matches!(function.signature.output, ReturnType::Default) {
        return None;
    }
    let site_variable = Ident::new("site", Span::mixed_site()).into_token_stream();
    let statements = wrap_futures(&function.body, &|future| {
        measured(args, &site_variable, &future.to_token_stream())
    })?;
    let site = site(args, function);
    let labels = bound_labels(args);
    let body = block(function, quote!(#(#statements)*));
    Some(quote! {
        let #site_variable = #site;
        #labels
        #body
    })
}

/// Wraps a future; its labels are those of [`bound_labels`].
fn measured(args: &Args, site: &TokenStream, future: &TokenStream) -> TokenStream {
    let krate = args.krate();
    let measured = quote!(#krate::__private::future(#site, #future));
    if args.labels.is_none() {
        return measured;
    }
    let variable = labels_variable();
    quote!(#krate::__private::labelled(#variable, #measured))
}

fn bound_labels(args: &Args) -> Option<TokenStream> {
    let variable = labels_variable();
    labels(args).map(|labels| quote!(let #variable = #labels;))
}

fn labels_variable() -> Ident {
    Ident::new("labels", Span::mixed_site())
}

/// Computes the values.
fn labels(args: &Args) -> Option<TokenStream> {
    let krate = args.krate();
    let pairs = &args.labels.as_ref()?.pairs;
    let pairs = pairs.iter().map(|label| {
        let (key, value) = (label.key(), &label.value);
        let reference = quote_spanned!(ours(value.span())=> &(#value));
        quote!(.with(#key, #reference))
    });
    Some(quote!(#krate::__private::CallLabels::begin()#(#pairs)*))
}

/// Points at the user's tokens, for messages, but is ours, for lints.
fn ours(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}

/// Declares the call site and refers to it, in a scope of its own: the body sees none of it.
fn site(args: &Args, function: &Function) -> TokenStream {
    let krate = args.krate();
    // `line!()` at the function's own word: behind a macro or an annotated block, the attribute is
    // somewhere else.
    let line = quote_spanned!(function.signature.ident.span()=> ::core::line!());
    let instrumented = function
        .instrumented()
        .map(|span| quote_spanned!(span=> ::core::line!()))
        .map(|line| quote!(.instrumented(#line)));
    let (item, name) = match &args.name {
        Some(name) => (None, quote!(Literal(#name))),
        None => (
            Some(quote! {
                fn name() -> &'static str {
                    ::core::any::type_name_of_val(&name)
                }
            }),
            quote!(Enclosing(name)),
        ),
    };
    quote!({
        #item
        static SITE: #krate::__private::CallSite = #krate::__private::CallSite::new(
            #krate::__private::Name::#name,
            ::core::file!(),
            #line,
        )#instrumented;
        &SITE
    })
}

/// The user's statements, in a block of their own.
///
/// The block keeps their items ahead of statements. The arm ends the temporaries of the last
/// expression before our guards, in every edition, as no plain block does; unlike a `return`, it is
/// silent when the body diverges. The braces are the user's, with the edition that decides
/// when the block itself drops what.
fn block(function: &Function, statements: TokenStream) -> TokenStream {
    let mut block = Group::new(Delimiter::Brace, statements);
    block.set_span(function.brace.span.join());
    quote!(match () { () => #block })
}

/// Tells the inner `async` block its type, which does not flow through `.await`: a `?` or a
/// coercion would have no target.
fn output_hint(args: &Args, output: &ReturnType) -> Option<TokenStream> {
    let krate = args.krate();
    let ty = match output {
        ReturnType::Default => parse_quote!(()),
        ReturnType::Type(_, ty) => {
            let mut ty = Type::clone(ty);
            EraseImpl.visit_type_mut(&mut ty);
            ty
        }
    };
    if is_never(&ty) || matches!(ty, Type::Infer(_)) {
        return None;
    }
    // In parentheses, it is all where the type is: messages name that as the place.
    Some(quote_spanned! {ours(ty.span())=>
        if false {
            return (#krate::__private::output::<#ty>)();
        }
    })
}

fn is_never(ty: &Type) -> bool {
    matches!(ty, Type::Never(_))
}

/// `impl Trait` has no name in a body; `_` stands for it.
struct EraseImpl;

impl VisitMut for EraseImpl {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        if let Type::ImplTrait(_) = ty {
            *ty = parse_quote!(_);
        } else {
            visit_mut::visit_type_mut(self, ty);
        }
    }
}

//! The futures that a function which is not `async` ends in.

use proc_macro2::TokenStream;
use syn::parse::Parser;
use syn::{Block, Expr, ExprAsync, Stmt};

use crate::item::find;

/// Wraps every `async` block in the last expression, also inside `Box::pin`; `None` if there is
/// none. Statements before it are kept as they are.
pub(crate) fn wrap_futures(
    body: &TokenStream,
    wrap: &dyn Fn(&ExprAsync) -> TokenStream,
) -> Option<Vec<Stmt>> {
    // Most bodies have no such word, and need no parsing.
    find(body.clone(), "async")?;
    let mut statements = Block::parse_within.parse2(body.clone()).ok()?;
    in_statements(&mut statements, wrap).then_some(statements)
}

fn in_statements(statements: &mut [Stmt], wrap: &dyn Fn(&ExprAsync) -> TokenStream) -> bool {
    match statements.last_mut() {
        Some(Stmt::Expr(expr, None) | Stmt::Expr(expr @ Expr::Return(_), Some(_))) => {
            in_tail(expr, wrap)
        }
        _ => false,
    }
}

/// Returns whether something was wrapped.
fn in_tail(expr: &mut Expr, wrap: &dyn Fn(&ExprAsync) -> TokenStream) -> bool {
    match expr {
        Expr::Async(future) => {
            *expr = Expr::Verbatim(wrap(future));
            true
        }
        Expr::Call(call) if call.args.len() == 1 && is_box_pin(&call.func) => {
            call.args.first_mut().is_some_and(|future| in_tail(future, wrap))
        }
        Expr::Return(returned) => returned.expr.as_mut().is_some_and(|expr| in_tail(expr, wrap)),
        Expr::Block(block) => in_statements(&mut block.block.stmts, wrap),
        Expr::Unsafe(block) => in_statements(&mut block.block.stmts, wrap),
        Expr::Paren(paren) => in_tail(&mut paren.expr, wrap),
        Expr::Group(group) => in_tail(&mut group.expr, wrap),
        Expr::If(branch) => {
            let then = in_statements(&mut branch.then_branch.stmts, wrap);
            let otherwise =
                branch.else_branch.as_mut().is_some_and(|(_, expr)| in_tail(expr, wrap));
            then | otherwise
        }
        Expr::Match(choice) => choice
            .arms
            .iter_mut()
            .fold(false, |wrapped, arm| in_tail(&mut arm.body, wrap) | wrapped),
        _ => false,
    }
}

/// Recognizes `Box::pin`, however much of its path is written.
fn is_box_pin(function: &Expr) -> bool {
    let Expr::Path(path) = function else { return false };
    let mut segments = path.path.segments.iter().rev();
    segments.next().is_some_and(|last| last.ident == "pin")
        && segments.next().is_some_and(|owner| owner.ident == "Box")
}

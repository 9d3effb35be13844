//! From text to an [`Apply`].

use super::ast::{AggregateItem, Apply, Named, Rank, Transformation, TransformationKind};
use super::method::{Method, hint_for};
use crate::error::QueryError;
use crate::odata::ast::{Expr, ExprKind, Name, Span};
use crate::odata::lexer::TokenKind;
use crate::odata::parse::{INFIX_NAMES, Parser};
use crate::odata::text::did_you_mean;

/// The transformations that are supported.
const TRANSFORMATIONS: [&str; 14] = [
    "filter",
    "compute",
    "groupby",
    "aggregate",
    "orderby",
    "top",
    "skip",
    "topcount",
    "bottomcount",
    "topsum",
    "bottomsum",
    "toppercent",
    "bottompercent",
    "identity",
];

/// Transformations of the standard that are not supported, and what to do instead.
const REFUSED: [(&str, &str); 11] = [
    ("concat", "ask twice"),
    ("search", "write filter(contains(Field,'text'))"),
    (
        "expand",
        "records are joined by key, by the program that asks",
    ),
    (
        "join",
        "records are joined by key, by the program that asks",
    ),
    (
        "outerjoin",
        "records are joined by key, by the program that asks",
    ),
    (
        "addnested",
        "records are joined by key, by the program that asks",
    ),
    ("nest", "group by the outer field, then by both"),
    ("ancestors", "there are no hierarchies here"),
    ("descendants", "there are no hierarchies here"),
    ("traverse", "there are no hierarchies here"),
    ("having", "write filter(..) after groupby"),
];

/// Reads the text of an `$apply`.
///
/// The text is not percent-encoded; the limits are those of
/// [`parse_filter`](crate::odata::parse_filter).
pub fn parse_apply(text: &str) -> Result<Apply, QueryError> {
    let mut parser = Parser::new("$apply", text)?;
    let apply = sequence(&mut parser)?;
    match parser.peek().kind {
        TokenKind::End => Ok(apply),
        TokenKind::Close => {
            let span = parser.peek().span;
            Err(parser.option.error(span, "this ) closes nothing"))
        }
        _ => Err(parser.unexpected("/ and another transformation or the end")),
    }
}

fn sequence(parser: &mut Parser<'_>) -> Result<Apply, QueryError> {
    let mut steps = Vec::new();
    loop {
        steps.push(transformation(parser)?);
        if !parser.eat(&TokenKind::Slash) {
            return Ok(Apply { steps });
        }
    }
}

fn transformation(parser: &mut Parser<'_>) -> Result<Transformation, QueryError> {
    let name = parser.name("a transformation, as in groupby((City),aggregate($count as Count))")?;
    let lower = name.text.to_ascii_lowercase();
    if lower == "identity" {
        return Ok(Transformation {
            kind: TransformationKind::Identity,
            span: name.span,
        });
    }
    if !TRANSFORMATIONS.contains(&lower.as_str()) {
        return Err(unknown(parser, &name, &lower));
    }
    let open = parser.expect(&TokenKind::Open, &format!("( after {}", name.text))?;
    let kind = parser.nested(open, |p| match lower.as_str() {
        "filter" => Ok(TransformationKind::Filter(p.expr(0)?.expr)),
        "compute" => Ok(TransformationKind::Compute(list(p, computed)?)),
        "groupby" => group_by(p),
        "aggregate" => Ok(TransformationKind::Aggregate(list(p, aggregate_item)?)),
        "orderby" => Ok(TransformationKind::OrderBy(p.order_items()?)),
        "top" => Ok(TransformationKind::Top(whole(p)?)),
        "skip" => Ok(TransformationKind::Skip(whole(p)?)),
        ranked => {
            let rank = Rank::ALL.into_iter().find(|rank| rank.name() == ranked);
            let rank = rank.unwrap_or(Rank::TopCount);
            let amount = p.expr(0)?.expr;
            p.expect(&TokenKind::Comma, "a comma and what is ranked by")?;
            let by = p.expr(0)?.expr;
            Ok(TransformationKind::Ranked { rank, amount, by })
        }
    })?;
    let end = close(parser)?;
    Ok(Transformation {
        kind,
        span: name.span.to(end),
    })
}

fn unknown(parser: &Parser<'_>, name: &Name, lower: &str) -> QueryError {
    if let Some((_, instead)) = REFUSED.iter().find(|(known, _)| *known == lower) {
        let message = format!("{lower}() is not supported");
        return parser
            .option
            .hinted(name.span, message, Some((*instead).to_owned()));
    }
    let message = format!("there is no transformation {}", name.text);
    let hint = if Method::named(lower).is_some() {
        Some(format!("write aggregate(Field with {lower} as Name)"))
    } else {
        did_you_mean(lower, TRANSFORMATIONS)
    };
    parser.option.hinted(name.span, message, hint)
}

/// The `)` that ends a transformation.
fn close(parser: &mut Parser<'_>) -> Result<Span, QueryError> {
    if let TokenKind::Ident(word) = parser.peek().kind {
        let mut error = parser.unexpected("an operator, a comma or )");
        let known = INFIX_NAMES.into_iter().chain(["with", "as", "asc", "desc"]);
        error.hint = did_you_mean(word, known);
        return Err(error);
    }
    parser.expect(&TokenKind::Close, ")")
}

/// Items joined by commas.
fn list<'t, T>(
    parser: &mut Parser<'t>,
    mut item: impl FnMut(&mut Parser<'t>) -> Result<T, QueryError>,
) -> Result<Vec<T>, QueryError> {
    let mut items = Vec::new();
    loop {
        items.push(item(parser)?);
        if !parser.eat(&TokenKind::Comma) {
            return Ok(items);
        }
    }
}

fn eat_word(parser: &mut Parser<'_>, wanted: &str) -> bool {
    let found = matches!(parser.peek().kind,
        TokenKind::Ident(word) if word.eq_ignore_ascii_case(wanted));
    if found {
        parser.advance();
    }
    found
}

/// `as Name`, when it is there.
fn alias(parser: &mut Parser<'_>) -> Result<Option<Name>, QueryError> {
    if !eat_word(parser, "as") {
        return Ok(None);
    }
    let name = parser.name("a name after as")?;
    if name.text.contains(['.', '$']) {
        let message = format!("{} is not the name of a member", name.text);
        let hint = "a name has letters, digits and _".to_owned();
        return Err(parser.option.hinted(name.span, message, Some(hint)));
    }
    Ok(Some(name))
}

fn computed(parser: &mut Parser<'_>) -> Result<Named, QueryError> {
    let expr = parser.expr(0)?.expr;
    let name = alias(parser)?;
    if name.is_none() {
        let mut error = parser.unexpected("an operator or as and a name");
        error.hint = Some(format!("write {expr} as Name"));
        return Err(error);
    }
    Ok(Named { expr, name })
}

fn key(parser: &mut Parser<'_>) -> Result<Named, QueryError> {
    let expr = parser.expr(0)?.expr;
    if let ExprKind::Call { name, .. } = &expr.kind
        && name.text.eq_ignore_ascii_case("rollup")
    {
        let message = "rollup() is not supported";
        let hint = "ask once for each level".to_owned();
        return Err(parser.option.hinted(name.span, message, Some(hint)));
    }
    let name = alias(parser)?;
    Ok(Named { expr, name })
}

fn group_by(parser: &mut Parser<'_>) -> Result<TransformationKind, QueryError> {
    if parser.peek().kind != TokenKind::Open {
        let mut error = parser.unexpected("( and what to group by");
        error.hint = Some("write groupby((City,StandardStatus),aggregate(..))".to_owned());
        return Err(error);
    }
    let open = parser.advance().span;
    let keys = parser.nested(open, |p| list(p, key))?;
    close(parser)?;
    let then = if parser.eat(&TokenKind::Comma) {
        Some(sequence(parser)?)
    } else {
        None
    };
    Ok(TransformationKind::GroupBy { keys, then })
}

fn aggregate_item(parser: &mut Parser<'_>) -> Result<AggregateItem, QueryError> {
    if eat_word(parser, "$count") {
        let name = required_alias(parser, || "$count as Count".to_owned())?;
        return Ok(AggregateItem { value: None, name });
    }
    let expr = parser.expr(0)?.expr;
    let method = with_method(parser, &expr)?;
    let name = required_alias(parser, || suggestion(&expr, method))?;
    if matches!(parser.peek().kind, TokenKind::Ident(word) if word.eq_ignore_ascii_case("from")) {
        let span = parser.peek().span;
        let message = "from is not supported";
        let hint = "aggregate twice: groupby((..),aggregate(..))/aggregate(..)".to_owned();
        return Err(parser.option.hinted(span, message, Some(hint)));
    }
    Ok(AggregateItem {
        value: Some((expr, method)),
        name,
    })
}

/// `ListPrice with average as AverageListPrice`, where the name is missing.
fn suggestion(expr: &Expr, method: Method) -> String {
    let name = default_alias(Some((expr, method))).unwrap_or_else(|| "Name".to_owned());
    format!("{expr} with {method} as {name}")
}

fn with_method(parser: &mut Parser<'_>, expr: &Expr) -> Result<Method, QueryError> {
    if !eat_word(parser, "with") {
        let call = match &expr.kind {
            ExprKind::Call { name, args } => match (Method::named(&name.text), args.as_slice()) {
                (Some(method), [arg]) => Some(suggestion(arg, method)),
                _ => None,
            },
            _ => None,
        };
        let mut error = parser.unexpected("with and a method");
        error.hint = Some(match call {
            Some(instead) => format!("write {instead}"),
            None => format!("write {expr} with average as Name"),
        });
        return Err(error);
    }
    let name = parser.name("a method: sum, min, max, average, countdistinct, median, p90")?;
    Method::named(&name.text).ok_or_else(|| {
        let message = format!("there is no method {}", name.text);
        let hint = Some(hint_for(&name.text));
        parser.option.hinted(name.span, message, hint)
    })
}

fn required_alias(
    parser: &mut Parser<'_>,
    suggestion: impl Fn() -> String,
) -> Result<Name, QueryError> {
    if let Some(name) = alias(parser)? {
        return Ok(name);
    }
    let mut error = parser.unexpected("as and a name");
    error.hint = Some(format!("write {}", suggestion()));
    Err(error)
}

/// The name of a result that was given none: `Count`, `MedianListPrice`. None for expressions.
fn default_alias(value: Option<(&Expr, Method)>) -> Option<String> {
    let Some((expr, method)) = value else {
        return Some("Count".to_owned());
    };
    let named = Named {
        expr: expr.clone(),
        name: None,
    };
    Some(format!("{}{}", method.word(), named.default_name()?))
}

fn whole(parser: &mut Parser<'_>) -> Result<u64, QueryError> {
    use crate::odata::ast::Literal;
    let token = parser.peek().clone();
    let value = match &token.kind {
        TokenKind::Literal(Literal::Number(n)) => n.to_i64().and_then(|n| u64::try_from(n).ok()),
        _ => None,
    };
    let Some(value) = value else {
        return Err(parser.unexpected("a whole number from 0"));
    };
    parser.advance();
    Ok(value)
}

/// Reads one aggregate as people write it: `count`, `median(ListPrice)`,
/// `average(ClosePrice div LivingArea) as Ppsf`, or as `$apply` has it. `option` is what the text
/// is called in errors.
///
/// A result that is given no name is named after the method and the field: `MedianListPrice`.
pub fn parse_aggregate(option: &'static str, text: &str) -> Result<AggregateItem, QueryError> {
    let mut parser = Parser::new(option, text)?;
    let item = short_item(&mut parser)?;
    end(&mut parser)?;
    Ok(item)
}

/// Reads what to group by, joined by commas: `City,year(CloseDate) as Year`.
pub fn parse_group_keys(option: &'static str, text: &str) -> Result<Vec<Named>, QueryError> {
    let mut parser = Parser::new(option, text)?;
    let keys = list(&mut parser, key)?;
    end(&mut parser)?;
    Ok(keys)
}

fn end(parser: &mut Parser<'_>) -> Result<(), QueryError> {
    match parser.peek().kind {
        TokenKind::End => Ok(()),
        _ => Err(parser.unexpected("the end")),
    }
}

fn short_item(parser: &mut Parser<'_>) -> Result<AggregateItem, QueryError> {
    let expr = parser.expr(0)?.expr;
    let counts = match &expr.kind {
        ExprKind::Path(path) => match path.names.as_slice() {
            [name] => matches!(name.text.to_ascii_lowercase().as_str(), "count" | "$count"),
            _ => false,
        },
        ExprKind::Call { name, args } => args.is_empty() && name.text.eq_ignore_ascii_case("count"),
        _ => false,
    };
    let value = if counts {
        None
    } else {
        match &expr.kind {
            ExprKind::Call { name, args } => match (Method::named(&name.text), args.as_slice()) {
                (Some(method), [arg]) => Some((arg.clone(), method)),
                (Some(_), _) => {
                    let message = format!("{} takes one argument", name.text);
                    return Err(parser.option.error(expr.span, message));
                }
                (None, _) if parser.peek().kind == TokenKind::End => {
                    let message = format!("there is no method {}", name.text);
                    let hint = Some(hint_for(&name.text));
                    return Err(parser.option.hinted(name.span, message, hint));
                }
                (None, _) => Some((expr.clone(), with_method(parser, &expr)?)),
            },
            _ => Some((expr.clone(), with_method(parser, &expr)?)),
        }
    };
    let given = alias(parser)?;
    let implied = || default_alias(value.as_ref().map(|(e, m)| (e, *m))).map(|n| n.as_str().into());
    let Some(name) = given.or_else(implied) else {
        let message = "an expression needs a name";
        let hint = format!("write {} as Name", parser.option.at(expr.span));
        return Err(parser.option.hinted(expr.span, message, Some(hint)));
    };
    Ok(AggregateItem { value, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_reads_the_same() {
        for text in [
            "aggregate($count as Count)",
            "groupby((City))",
            "groupby((City,year(CloseDate) as Y),aggregate(ListPrice with average as A,\
             $count as N))",
            "filter(StandardStatus eq 'Active')/groupby((City),aggregate(ListPrice div LivingArea \
             with Relist.median as M))/filter(M gt 100)/orderby(M desc,City)/skip(2)/top(5)",
            "compute(year(CloseDate) as Y)/groupby((Y),filter(A eq 1)/aggregate(X with \
             Relist.p90 as P))",
            "groupby((A,B),aggregate(X with sum as S))/groupby((A),topcount(2,S))/identity",
            "groupby((A),aggregate(X with sum as S))/toppercent(50,S)/bottomsum(1.5,S)",
        ] {
            let apply = parse_apply(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(apply.to_string(), text);
            assert_eq!(parse_apply(&apply.to_string()).unwrap(), apply);
        }
    }

    #[test]
    fn faults_name_the_place_and_the_cure() {
        for (text, at, message, hint) in [
            ("", 0, "$apply is empty", ""),
            (
                "groupby(City)",
                8,
                "expected ( and what",
                "write groupby((City,",
            ),
            (
                "gruopby((City))",
                0,
                "there is no transformation",
                "did you mean groupby?",
            ),
            (
                "concat(identity)",
                0,
                "concat() is not supported",
                "ask twice",
            ),
            (
                "average(ListPrice)",
                0,
                "there is no transformation",
                "write aggregate(Field",
            ),
            (
                "aggregate(A with avg as B)",
                17,
                "there is no method avg",
                "did you mean average?",
            ),
            (
                "aggregate(ListPrice with max)",
                28,
                "expected as and a name",
                "write ListPrice with max as MaxListPrice",
            ),
            (
                "aggregate(max(ListPrice) as X)",
                25,
                "expected with and a method",
                "write ListPrice with max as MaxListPrice",
            ),
            (
                "aggregate($count)",
                16,
                "expected as",
                "write $count as Count",
            ),
            (
                "filter(a eqq 1)",
                9,
                "expected an operator",
                "did you mean eq?",
            ),
            (
                "groupby((rollup(A,B)))",
                9,
                "rollup() is not supported",
                "ask once",
            ),
            ("top(-1)", 4, "expected a whole number", ""),
            ("top(1)/", 7, "expected a transformation", ""),
            ("top(1))", 6, "this ) closes nothing", ""),
            (
                "compute(a add 1)",
                15,
                "expected an operator or as",
                "write a add 1 as Name",
            ),
            (
                "aggregate(a with sum as b from c)",
                26,
                "from is not supported",
                "aggregate twice",
            ),
        ] {
            let error = parse_apply(text).expect_err(text);
            assert_eq!(error.offset, at, "{text}: {error:?}");
            assert!(error.message.starts_with(message), "{text}: {error:?}");
            let found = error.hint.as_deref().unwrap_or_default();
            assert!(found.starts_with(hint), "{text}: {error:?}");
        }
        let deep = format!(
            "{}aggregate($count as N){}",
            "groupby((A),".repeat(70),
            ")".repeat(70)
        );
        assert!(
            parse_apply(&deep)
                .unwrap_err()
                .message
                .contains("levels deep")
        );
    }

    #[test]
    fn aggregates_as_people_write_them() {
        for (text, expected) in [
            ("count", "$count as Count"),
            ("count()", "$count as Count"),
            ("$count as N", "$count as N"),
            (
                "median(ListPrice)",
                "ListPrice with Relist.median as MedianListPrice",
            ),
            ("p90(ListPrice) as P", "ListPrice with Relist.p90 as P"),
            (
                "average(ListPrice div LivingArea) as Ppsf",
                "ListPrice div LivingArea with average as Ppsf",
            ),
            (
                "max(year(CloseDate))",
                "year(CloseDate) with max as MaxYearCloseDate",
            ),
            ("ListPrice with sum", "ListPrice with sum as SumListPrice"),
        ] {
            let item = parse_aggregate("--agg", text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            assert_eq!(item.to_string(), expected);
        }
        for (text, at, message) in [
            ("avg(ListPrice)", 0, "there is no method avg"),
            ("average(A div B)", 0, "an expression needs a name"),
            ("ListPrice", 9, "expected with and a method"),
            ("sum(A,B)", 0, "sum takes one argument"),
            ("sum(A) sum(B)", 7, "expected the end"),
        ] {
            let error = parse_aggregate("--agg", text).expect_err(text);
            assert_eq!(
                (error.option, error.offset),
                ("--agg", at),
                "{text}: {error:?}"
            );
            assert!(error.message.starts_with(message), "{text}: {error:?}");
        }
        let keys = parse_group_keys("--group-by", "City, year(CloseDate)").unwrap();
        assert_eq!(keys[1].default_name().as_deref(), Some("YearCloseDate"));
    }
}

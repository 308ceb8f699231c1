//! From the parameters of a request that say what must hold, what shall change and what is wanted to their trees:
//! expressions as text with names and values, or the older parameters that they replaced
//! ([`legacy`]). Both become the same trees, so nothing behind this knows which were used.
//!
//! The order of checks is AWS's: the two kinds must not be mixed; names and values make sense only with
//! expressions; then each expression is parsed; at last every name and value must have been used.
//!
//! Texts repeat from request to request while their values do not. So templates (parsed texts whose placeholders are
//! still open) are kept in a bounded cache that the whole process shares. Texts that are no expressions are not kept: whoever
//! sends them pays for each.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::value::RawValue;

use super::failure::Failure;
use super::legacy;
use super::request;
use crate::expression::{
    Condition, ConditionTemplate, ExpressionError, KeyCondition, KeyConditionTemplate, Projection, ProjectionTemplate,
    Role, Substitutions, Update, UpdateTemplate,
};

/// The operation whose parameters are read. Some texts name the parameters that it could have had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// PutItem.
    PutItem,
    /// DeleteItem.
    DeleteItem,
    /// UpdateItem.
    UpdateItem,
    /// GetItem, and one table of BatchGetItem.
    GetItem,
    /// Query.
    Query,
    /// Scan.
    Scan,
}

impl Operation {
    /// Expressions that may have values, as texts list them.
    fn with_values(self) -> &'static [Role] {
        match self {
            Operation::PutItem | Operation::DeleteItem => &[Role::Condition],
            Operation::UpdateItem => &[Role::Update, Role::Condition],
            Operation::GetItem => &[],
            Operation::Query => &[Role::Filter, Role::KeyCondition],
            Operation::Scan => &[Role::Filter],
        }
    }
}

/// The parameters as they came. What an operation does not have stays none.
#[derive(Clone, Copy, Default)]
pub struct Parameters<'a> {
    /// ConditionExpression.
    pub condition: Option<&'a str>,
    /// UpdateExpression.
    pub update: Option<&'a str>,
    /// ProjectionExpression.
    pub projection: Option<&'a str>,
    /// FilterExpression.
    pub filter: Option<&'a str>,
    /// KeyConditionExpression.
    pub key_condition: Option<&'a str>,
    /// ExpressionAttributeNames.
    pub names: Option<&'a BTreeMap<String, String>>,
    /// ExpressionAttributeValues: the map from placeholder (with its colon) to attribute value, as JSON.
    pub values: Option<&'a RawValue>,
    /// Expected, as JSON.
    pub expected: Option<&'a RawValue>,
    /// AttributeUpdates, as JSON.
    pub attribute_updates: Option<&'a RawValue>,
    /// AttributesToGet.
    pub attributes_to_get: Option<&'a [String]>,
    /// KeyConditions, as JSON.
    pub key_conditions: Option<&'a RawValue>,
    /// QueryFilter, as JSON.
    pub query_filter: Option<&'a RawValue>,
    /// ScanFilter, as JSON.
    pub scan_filter: Option<&'a RawValue>,
    /// ConditionalOperator.
    pub conditional_operator: Option<&'a str>,
}

/// What the parameters say.
#[derive(Debug, Default)]
pub struct Expressions {
    /// What must hold for a write: ConditionExpression or Expected.
    pub condition: Option<Condition>,
    /// What shall change: UpdateExpression or AttributeUpdates.
    pub update: Option<Update>,
    /// What is wanted: ProjectionExpression or AttributesToGet.
    pub projection: Option<Projection>,
    /// Which items are wanted: FilterExpression, QueryFilter or ScanFilter.
    pub filter: Option<Condition>,
    /// Which keys are wanted: KeyConditionExpression or KeyConditions.
    pub key_condition: Option<KeyCondition>,
    /// Whether `update` came as AttributeUpdates: AWS words what does not fit then differently
    /// ([`legacy::evaluation_text`]).
    pub is_legacy_update: bool,
}

impl<'a> Parameters<'a> {
    /// Whether none was given, as with most reads and writes of one item.
    fn is_empty(&self) -> bool {
        let Parameters {
            condition,
            update,
            projection,
            filter,
            key_condition,
            names,
            values,
            expected,
            attribute_updates,
            attributes_to_get,
            key_conditions,
            query_filter,
            scan_filter,
            conditional_operator,
        } = self;
        let texts = [condition, update, projection, filter, key_condition, conditional_operator];
        let parts = [values, expected, attribute_updates, key_conditions, query_filter, scan_filter];
        texts.iter().all(|text| text.is_none())
            && parts.iter().all(|part| part.is_none())
            && names.is_none()
            && attributes_to_get.is_none()
    }

    /// The expressions that were given, in the order in which texts list them.
    fn expressions(&self) -> [(Role, Option<&'a str>); 5] {
        [
            (Role::Projection, self.projection),
            (Role::Filter, self.filter),
            (Role::Update, self.update),
            (Role::Condition, self.condition),
            (Role::KeyCondition, self.key_condition),
        ]
    }

    /// The older parameters that were given, in the order in which texts list them.
    fn others(&self) -> Vec<&'static str> {
        let all = [
            ("AttributesToGet", self.attributes_to_get.is_some()),
            ("QueryFilter", self.query_filter.is_some()),
            ("ScanFilter", self.scan_filter.is_some()),
            ("AttributeUpdates", self.attribute_updates.is_some()),
            ("Expected", self.expected.is_some()),
            ("ConditionalOperator", self.conditional_operator.is_some()),
            // With a FilterExpression it may stand: it is older than KeyConditionExpression.
            ("KeyConditions", self.key_conditions.is_some() && self.key_condition.is_some()),
        ];
        all.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect()
    }
}

/// Reads them all, with AWS's checks in AWS's order.
///
/// # Errors
/// ValidationException, and SerializationException where JSON has another type than it must have.
pub fn read(operation: Operation, parameters: &Parameters<'_>) -> Result<Expressions, Failure> {
    if parameters.is_empty() {
        return Ok(Expressions::default());
    }
    check_not_mixed(parameters)?;
    check_substitutions(operation, parameters)?;
    let values = parameters.values.map(request::read_values).transpose()?;
    let mut substitutions = Substitutions::new(parameters.names, values).map_err(failure)?;
    let mut read = Expressions::default();
    let kept = &*TEMPLATES;
    if let Some(text) = parameters.filter {
        let template = kept.filters.get_or_parse(text, |text| ConditionTemplate::parse(Role::Filter, text))?;
        read.filter = Some(template.bind(&mut substitutions).map_err(failure)?);
    }
    if let Some(text) = parameters.projection {
        let template = kept.projections.get_or_parse(text, ProjectionTemplate::parse)?;
        read.projection = Some(template.bind(&mut substitutions).map_err(failure)?);
    }
    if let Some(text) = parameters.key_condition {
        let template = kept.key_conditions.get_or_parse(text, KeyConditionTemplate::parse)?;
        read.key_condition = Some(template.bind(&mut substitutions).map_err(failure)?);
    }
    if let Some(text) = parameters.update {
        let template = kept.updates.get_or_parse(text, UpdateTemplate::parse)?;
        read.update = Some(template.bind(&mut substitutions).map_err(failure)?);
    }
    if let Some(text) = parameters.condition {
        let template = kept.conditions.get_or_parse(text, |text| ConditionTemplate::parse(Role::Condition, text))?;
        read.condition = Some(template.bind(&mut substitutions).map_err(failure)?);
    }
    substitutions.finish().map_err(failure)?;
    read_legacy(operation, parameters, &mut read)?;
    Ok(read)
}

/// Reads the older parameters, which stand alone by now.
fn read_legacy(operation: Operation, parameters: &Parameters<'_>, read: &mut Expressions) -> Result<(), Failure> {
    if let Some(attributes) = parameters.attributes_to_get {
        read.projection = Some(legacy::projection(attributes)?);
    }
    if let Some(json) = parameters.attribute_updates {
        read.update = Some(legacy::update(json)?);
        read.is_legacy_update = true;
    }
    if let Some(json) = parameters.key_conditions {
        read.key_condition = Some(legacy::key_condition(json)?);
    }
    let (parameter, json) = match operation {
        Operation::Query => (legacy::Parameter::QueryFilter, parameters.query_filter),
        Operation::Scan => (legacy::Parameter::ScanFilter, parameters.scan_filter),
        _ => (legacy::Parameter::Expected, parameters.expected),
    };
    if let Some(condition) = legacy::condition(parameter, json, parameters.conditional_operator)? {
        match operation {
            Operation::Query | Operation::Scan => read.filter = Some(condition),
            _ => read.condition = Some(condition),
        }
    }
    Ok(())
}

/// Expressions and what they replaced do not go together.
fn check_not_mixed(parameters: &Parameters<'_>) -> Result<(), Failure> {
    let given = parameters.expressions().into_iter().filter(|(_, text)| text.is_some());
    let given: Vec<&str> = given.map(|(role, _)| role.name()).collect();
    let others = parameters.others();
    if given.is_empty() || others.is_empty() {
        return Ok(());
    }
    Err(Failure::validation(format!(
        "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {{{}}} \
         Expression parameters: {{{}}}",
        others.join(", "),
        given.join(", ")
    )))
}

/// Names and values are given only for expressions.
fn check_substitutions(operation: Operation, parameters: &Parameters<'_>) -> Result<(), Failure> {
    let expressions = parameters.expressions();
    if parameters.names.is_some() && expressions.iter().all(|(_, text)| text.is_none()) {
        return Err(Failure::validation("ExpressionAttributeNames can only be specified when using expressions"));
    }
    let roles = operation.with_values();
    let has_one = expressions.iter().any(|(role, text)| text.is_some() && roles.contains(role));
    if parameters.values.is_some() && !has_one && !roles.is_empty() {
        let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
        return Err(Failure::validation(format!(
            "ExpressionAttributeValues can only be specified when using expressions: {} {} null",
            names.join(" and "),
            if names.len() == 1 { "is" } else { "are" }
        )));
    }
    Ok(())
}

fn failure(error: ExpressionError) -> Failure {
    Failure::validation(error.message)
}

/// Texts of one kind that are kept, in bytes. A template takes some twenty times its text at most.
const TEXT_BYTES_MAX: u64 = 512 * 1024;
/// What a kept template weighs beside its text.
const TEMPLATE_BYTES: u64 = 64;
/// How many templates that may be: a hint for how large the cache starts.
const TEMPLATES_EXPECTED: usize = 1024;

#[derive(Clone)]
struct Weight;

impl<T> Weighter<Box<str>, Arc<T>> for Weight {
    fn weight(&self, text: &Box<str>, _: &Arc<T>) -> u64 {
        text.len() as u64 + TEMPLATE_BYTES
    }
}

/// Templates of one kind by their text.
struct Kept<T>(Cache<Box<str>, Arc<T>, Weight>);

impl<T> Kept<T> {
    fn new() -> Self {
        Self(Cache::with_weighter(TEMPLATES_EXPECTED, TEXT_BYTES_MAX, Weight))
    }

    fn get_or_parse(
        &self,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, ExpressionError>,
    ) -> Result<Arc<T>, Failure> {
        if let Some(template) = self.0.get(text) {
            return Ok(template);
        }
        let template = Arc::new(parse(text).map_err(failure)?);
        self.0.insert(text.into(), Arc::clone(&template));
        Ok(template)
    }
}

/// Templates of all kinds. The texts of errors name the kind, so a text has one template for each.
struct Templates {
    conditions: Kept<ConditionTemplate>,
    filters: Kept<ConditionTemplate>,
    updates: Kept<UpdateTemplate>,
    projections: Kept<ProjectionTemplate>,
    key_conditions: Kept<KeyConditionTemplate>,
}

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates {
    conditions: Kept::new(),
    filters: Kept::new(),
    updates: Kept::new(),
    projections: Kept::new(),
    key_conditions: Kept::new(),
});

#[cfg(test)]
mod tests;

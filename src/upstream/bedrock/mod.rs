//! Models of Amazon Bedrock, in the shape of Anthropic's Messages API.

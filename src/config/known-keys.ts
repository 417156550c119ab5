import type { Document } from 'yaml'
import * as z from 'zod'
import { configSchema } from './schema.js'

/** The keys that the schema knows in the object at `path`, so that a misspelt one can be told with the right one. */
export function keysAt(path: readonly PropertyKey[], document: Document): readonly string[] {
  let schema: z.core.$ZodType | undefined = configSchema
  for (const [index, part] of path.entries()) {
    schema = descend(bare(schema, document.getIn([...path.slice(0, index), 'tracker'])), part)
    if (schema === undefined) return []
  }
  const object = bare(schema, document.getIn([...path, 'tracker']))
  return object instanceof z.ZodObject ? Object.keys(object.shape) : []
}

function descend(schema: z.core.$ZodType, part: PropertyKey): z.core.$ZodType | undefined {
  if (schema instanceof z.ZodObject) return schema.shape[String(part)]
  if (schema instanceof z.ZodRecord) return schema.valueType
  if (schema instanceof z.ZodArray) return schema.element
  return undefined
}

/** Without what is wrapped around it; of a choice of objects, the one that `tracker` chooses. */
function bare(schema: z.core.$ZodType, tracker: unknown): z.core.$ZodType {
  if (schema instanceof z.ZodOptional) return bare(schema.unwrap(), tracker)
  if (schema instanceof z.ZodPipe) return bare(schema.out, tracker)
  if (schema instanceof z.ZodDiscriminatedUnion) {
    const chosen = schema.options.find((option) => {
      return option instanceof z.ZodObject && z.safeParse(option.shape['tracker'], tracker).success
    })
    return chosen ?? schema
  }
  return schema
}

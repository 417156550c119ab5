import type { QemuOption } from './command-line.js'
import { firstWord, formatOptionValue, parseOptionValue, valueOf, without } from './option-value.js'
import type { Rewriting } from './rewriting.js'
import { formatTree, parseTree, textAt } from './tree.js'

/**
 * The card stays, and is connected to nothing where it was on a network of the host: a machine that was restored must
 * not answer for the one that may still run, with its addresses, before somebody wants it to.
 */
export function rewriteNetdev(option: QemuOption, rewriting: Rewriting): QemuOption {
  const { form, tree } = parseTree(option.value ?? '', 'type')
  const type = textAt(tree, 'type') ?? ''
  const id = textAt(tree, 'id') ?? ''
  if (type === 'hubport') return option
  if (type === 'user') {
    keepUser(option, rewriting)
    return option
  }
  const was = describe(type, textAt(tree, 'ifname') ?? textAt(tree, 'br'))
  rewriting.changed(`network '${id}' is connected to nothing, in place of ${was}`)
  const hub = rewriting.nextHub()
  const replaced = { type: 'hubport', id, hubid: form === 'json' ? hub : String(hub) }
  if (form === 'json') return { name: 'netdev', value: formatTree({ form, tree: replaced }) }
  return { name: 'netdev', value: `hubport,id=${id},hubid=${hub}` }
}

/** `-nic`: a card and its network in one. */
export function rewriteNic(option: QemuOption, rewriting: Rewriting): QemuOption {
  const parts = parseOptionValue(option.value ?? '')
  const type = firstWord(parts) ?? valueOf(parts, 'type') ?? ''
  if (type === 'none') return option
  if (type === 'user') {
    keepUser(option, rewriting)
    return option
  }
  const was = describe(type, valueOf(parts, 'ifname') ?? valueOf(parts, 'br'))
  rewriting.changed(`a network card is connected to nothing, in place of ${was}`)
  const card = without(parts.slice(1), (key) => !/^(id|mac|model|addr)$/.test(key))
  const hub = { key: 'hubid', value: String(rewriting.nextHub()) }
  return { name: 'nic', value: formatOptionValue([{ word: 'hubport' }, hub, ...card]) }
}

/** The old `-net`, whose parts all meet in one hub. Undefined where it goes. */
export function rewriteNet(option: QemuOption, rewriting: Rewriting): QemuOption | undefined {
  const type = firstWord(parseOptionValue(option.value ?? '')) ?? ''
  if (type === 'nic' || type === 'none') return option
  if (type === 'user') {
    keepUser(option, rewriting)
    return option
  }
  rewriting.changed(`without -net ${type}: the cards are connected to nothing`)
  return undefined
}

function keepUser(option: QemuOption, rewriting: Rewriting): void {
  for (const forward of option.value?.matchAll(/hostfwd["=:]+([^,"]+)/g) ?? []) {
    rewriting.needsOnHost(`the port of ${forward[1] ?? ''} free to listen on (forwarded to the machine)`)
  }
}

function describe(type: string, name: string | undefined): string {
  return name === undefined ? type : `${type} ${name}`
}

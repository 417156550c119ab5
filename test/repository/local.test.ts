import { join } from 'node:path'
import { localRepository } from '../../src/repository/local/local-repository.js'
import { repositoryConformance } from '../conformance/repository.js'
import { temporaryFolder } from '../temporary.js'

repositoryConformance('local', () => localRepository(join(temporaryFolder(), 'new', 'repository'), { create: true }))

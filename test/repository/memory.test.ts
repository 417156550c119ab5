import { memoryRepository } from '../../src/repository/memory/memory-repository.js'
import { repositoryConformance } from '../conformance/repository.js'

repositoryConformance('memory', memoryRepository)
